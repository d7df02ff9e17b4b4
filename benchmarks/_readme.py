"""The figures in the README and in docs/measured, written from the data.

A block stands between ``<!-- benchmarks: NAME -->`` and ``<!-- end -->``. Rows whose cells are not
in the data, such as those of a peer that does not install, are left out.
"""

import re
import textwrap

from _store import FOLDER, load
from _tables import TARGETS, read, sent, span, table

ROOT = FOLDER.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "measured").glob("*.md"))]
BLOCK = re.compile(r"(<!-- benchmarks: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write() -> None:
    sections = load()
    for page in PAGES:
        page.write_text(rendered(page.read_text("utf-8"), sections), "utf-8")


def rendered(page: str, sections: dict[str, dict]) -> str:
    """Returns the page with new blocks. A block whose benchmarks were never run stays as it is."""

    def block(found: re.Match) -> str:
        begin, name, end = found.groups()
        used = [sections.get(source, {}) for source in SOURCES.get(name, (name,))]
        measured = all("date" in section for section in used)
        text = BLOCKS[name](*(section["tables"] for section in used)) if measured else ""
        return f"{begin}{text}\n\n{origin(used)}\n{end}" if text else found.group()

    return BLOCK.sub(block, page)


def origin(sections: list[dict]) -> str:
    """Returns the days of measurement and the versions of JAX; the report has the rest."""
    days = sorted({section["date"] for section in sections})
    versions = sorted({re.search(r"jax [\d.]+", s["machine"]).group() for s in sections})
    text = f"Measured {' and '.join(days)} with {' and '.join(versions)}"
    if busy := sorted({s["others"] for s in sections if s.get("others")}):
        text += f" while other programs kept {' and '.join(busy)} cores busy"
    return f"{text}."


def why(accuracy: dict, logits: dict, compile_time: dict, head: dict) -> str:
    """Returns three of the README's reasons, with a figure each, and then what they cost."""
    errors = dict(read(accuracy, "Relative error"))
    (ours, _), (theirs, _) = (
        errors[name]["gap 20"].split(" / ") for name in ("xent_jax", "optax integer")
    )
    targets = dict(read(logits, TARGETS))
    both, alone = (
        targets[f"{what}: geometric mean"]["found"]
        for what in ("value and gradient", "value alone")
    )
    integer = span(
        cells["ratio"]
        for what, cells in read(logits, "Value and gradient")
        if cells["labels"] == "integer" and "float32" in what
    )
    slowest = max((cells["ratio"] for _, cells in read(logits, "Value alone")), key=float)
    traced = max((cells["trace"] for _, cells in read(compile_time, "Over optax's")), key=float)
    return "\n".join(
        [
            item(
                f"**Exact.** When the label's logit leads by 20, the relative error of the loss is "
                f"{ours}, and optax's is {theirs} ([accuracy](docs/measured/accuracy.md))."
            ),
            item(
                f"**Fast.** On CPU, value and gradient take {both} times as long as optax's, in "
                "the geometric mean over labels, sizes and dtypes "
                "([time](docs/measured/logits.md))."
            ),
            item(f"**Small.** {small(head)} ([memory](docs/measured/head.md))."),
            "",
            filled(
                f"The costs: on CPU, integer labels in float32 take {integer} times as long as "
                f"optax's, the value alone takes {alone} times as long in the geometric mean and "
                f"{slowest} times at most, and [tracing](docs/measured/compile_time.md) takes up "
                f"to {traced} times as long. {peer(head)}"
            ),
        ]
    )


def item(text: str) -> str:
    return filled("- " + text, "  ")


def filled(text: str, indent: str = "") -> str:
    """Returns the text in lines as long as the README's."""
    return textwrap.fill(
        text, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def small(head: dict) -> str:
    """Returns the temporary memory for the most tokens that were measured."""
    (title,) = (title for title in head if title.startswith("Memory against N"))
    classes = int(title.partition("V=")[2])
    tokens, cells = read(head, "Memory against N")[-1]
    ours, held = (int(cells[f"{what} MiB"]) for what in ("xent_jax head", "logits, optax"))
    return (
        f"For {int(tokens):,} tokens and a vocabulary of {classes:,}, the head takes {ours:,} MiB "
        f"of temporary memory, and optax on held logits takes {held:,} MiB"
    )


def peer(head: dict) -> str:
    """Returns the temporary memory of tokamax's head beside ours, or nothing without tokamax."""
    times = dict(read(head, "Time in float32"))
    theirs = times.get("tokamax head, chunked_xla", {}).get("temp MiB")
    ours = times["head, value and gradients"]["temp MiB"]
    if not theirs:
        return ""
    return f"tokamax's head takes {theirs} MiB of temporary memory where ours takes {ours} MiB."


def accuracy(tables: dict) -> str:
    """Returns the relative errors of the loss and of the label's gradient, by library and gap."""
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
    """Returns the temporary memory of value and gradient as a share of the logits."""
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
    """Returns the errors of the two gradients in bfloat16, relative to each peer that installs."""
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


SOURCES = {"why": ("accuracy", "logits", "compile_time", "head")}
"""The benchmarks that a block takes its figures from, where it is not the one of its name."""
BLOCKS = {
    "why": why,
    "accuracy": accuracy,
    "logits": logits,
    "compile_time": compile_time,
    "head": head,
    "compile_only": compile_only,
    "traffic": traffic,
}
