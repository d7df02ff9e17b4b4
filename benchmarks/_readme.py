"""The README's figures, between ``<!-- benchmarks: NAME -->`` and ``<!-- end -->``, from the data.

A row whose cells are not in the data, as those of a peer that does not install, is left out.
"""

import re

from _store import FOLDER, load
from _tables import TARGETS, read, sent, span, table

PAGE = FOLDER.parent / "README.md"
BLOCK = re.compile(r"(<!-- benchmarks: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write() -> None:
    PAGE.write_text(rendered(PAGE.read_text("utf-8"), load()), "utf-8")


def rendered(page: str, sections: dict[str, dict]) -> str:
    """The page with its blocks made anew; one that was never measured stays as it is."""

    def block(found: re.Match) -> str:
        begin, name, end = found.groups()
        section = sections.get(name, {})
        text = BLOCKS[name](section["tables"]) if "date" in section else ""
        return f"{begin}{text}\n\n{origin(section)}\n{end}" if text else found.group()

    return BLOCK.sub(block, page)


def origin(section: dict) -> str:
    """The day, and JAX; the report has the rest."""
    version = re.search(r"jax [\d.]+", section["machine"]).group()
    text = f"Measured {section['date']} with {version}"
    if busy := section.get("others"):
        text += f" while other programs kept {busy} cores busy"
    return f"{text}."


def accuracy(tables: dict) -> str:
    """The relative errors of loss and label's gradient, by library and gap."""
    rows = read(tables, "Relative error")
    if not rows:  # measured before there was the table
        return ""
    lines = [[name, *cells.values()] for name, cells in rows]
    return table(["relative error of loss / gradient at the label", *rows[0][1]], lines)


def compile_time(tables: dict) -> str:
    rows = read(tables, "Over optax's")
    steps = ("trace", "lower", "compile", "equations", "call")
    lines = [[what, *(cells[step] for step in steps)] for what, cells in rows]
    return table(["value and gradient, over optax's", *steps], lines)


def logits(tables: dict) -> str:
    measured = [read(tables, title) for title in ("Value and gradient", "Value alone")]
    options = read(tables, "Options")
    if not options:  # measured before there were any
        return ""
    targets = dict(read(tables, TARGETS))

    def ratios(labels: str, dtype: str = "") -> list[str]:
        return [
            span([c["ratio"] for what, c in rows if c["labels"] == labels and dtype in what])
            for rows in measured
        ]

    means = [
        targets[f"{what}: geometric mean"]["found"]
        for what in ("value and gradient", "value alone")
    ]
    lines = [
        ["geometric mean of all", *means],
        ["integer labels, float32", *ratios("integer", "float32")],
        ["integer labels, bfloat16", *ratios("integer", "bfloat16")],
        ["soft labels", *ratios("soft")],
        ["with options", span([cells["ratio"] for _, cells in options]), ""],
    ]
    head = ["time over optax's on CPU", "value and gradient", "value alone"]
    return f"{table(head, lines)}\n\n{share(measured[0])}"


def share(rows: list[tuple[str, dict[str, str]]]) -> str:
    """Says what share of the logits value and gradient take as temporary memory."""
    texts = []
    for dtype in ("float32", "bfloat16"):
        shape = f"512 x 8192 {dtype}"
        cells = next(c for what, c in rows if what == shape and c["labels"] == "integer")
        ours, theirs = (cells[f"{library} temp %"] for library in ("xent_jax", "optax"))
        texts.append(f"{ours} % in {dtype}, optax's {theirs} %")
    return (
        "Temporary memory of value and gradient with 8,192 classes, of the logits' bytes:\n"
        f"{'; '.join(texts)}."
    )


HEAD_ROWS = {
    "`linear_softmax_cross_entropy`, mean": "head, value and gradients",
    'the same, reduction `"none"`': 'head, reduction "none"',
    "value alone": "head, value alone",
    "the inputs' gradient alone": "head, gradient of the inputs alone",
    "the kernel's gradient alone": "head, gradient of the kernel alone",
    "logits held, optax": "logits, optax",
    "tokamax, `chunked_xla`": "tokamax head, chunked_xla",
}


def head(tables: dict) -> str:
    times = dict(read(tables, "Time in float32"))
    lines = [
        [label, cells["over the products"], f"{cells['temp MiB']} MiB"]
        for label, what in HEAD_ROWS.items()
        if (cells := times[what])["over the products"]
    ]
    titles = ["value and gradients", "time over three products", "temporary memory"]
    return f"{table(titles, lines)}\n\n{growth(tables)}\n{errors(tables)}"


def growth(tables: dict) -> str:
    grown = read(tables, "Memory against N")
    (first, begin), (last, end) = grown[0], grown[-1]
    ours, theirs = (
        " and ".join(f"{int(cells[column]):,}" for cells in (begin, end))
        for column in ("xent_jax head MiB", "logits, optax MiB")
    )
    tokens = f"{int(first):,} and {int(last):,} tokens"
    return f"Temporary memory at {tokens}: {ours} MiB with the head, {theirs} with logits held."


PEERS = {"logits, optax": "logits held, optax", "tokamax head, chunked_xla": "tokamax"}


def errors(tables: dict) -> str:
    """Of the two gradients in bfloat16, beside each peer that was there."""
    found = dict(read(tables, TARGETS))
    start = "errors in bfloat16 of dx and dW over those of "
    shares = [
        f"{cells['found']} of those of {peer}"
        for known, peer in PEERS.items()
        for what, cells in found.items()
        if what.startswith(start + known)
    ]
    return f"With bfloat16 inputs the errors of dx and dW are\n{', '.join(shares)}."


COMPILED_ROWS = {
    "`linear_softmax_cross_entropy`, mean": "head, mean",
    "logits held, optax": "logits, optax",
    "logits held in float32, optax": "logits cast to float32, optax",
    "tokamax, `chunked_xla`": "tokamax head, chunked_xla",
}


def compile_only(tables: dict) -> str:
    found = dict(read(tables, "Temporary memory of value and gradients of the linear head"))
    chosen = [column for column in found["head, mean"] if column.endswith(" bfloat16")]
    lines = [
        [label, *(found[what][column] for column in chosen)]
        for label, what in COMPILED_ROWS.items()
        if what in found
    ]
    platforms = [column.removesuffix(" bfloat16") for column in chosen]
    return table(["value and gradients in bfloat16, MiB", *platforms], lines)


TRAFFIC_ROWS = {
    "loss of logits: automatic, explicit, in `shard_map`": [
        "loss, automatic",
        "loss, explicit",
        "loss, in shard_map",
    ],
    "optax: automatic; explicit": ["optax loss, automatic", "optax loss, explicit"],
    "`shard_linear_head`: the gradients of inputs and kernel": ["head, shard_linear_head"],
    "the same with the kernel fully sharded": ["head, shard_linear_head, kernel fully sharded"],
    "the head in chunks without `shard_linear_head`": ["head, automatic, chunks of 256"],
    "tokamax, `chunked_xla`, automatic": ["tokamax head, chunked_xla, automatic"],
}


def traffic(tables: dict) -> str:
    found = dict(read(tables, "Eight CPU devices"))
    lines = [
        [label, "; ".join(dict.fromkeys(sent(found[what]) for what in programs))]
        for label, programs in TRAFFIC_ROWS.items()
        if all(what in found for what in programs)
    ]
    return table(["value and gradients", "bytes between devices, per device"], lines)


BLOCKS = {
    "accuracy": accuracy,
    "logits": logits,
    "compile_time": compile_time,
    "head": head,
    "compile_only": compile_only,
    "traffic": traffic,
}
