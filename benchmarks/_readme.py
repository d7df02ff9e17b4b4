"""The README's figures, between ``<!-- benchmarks: NAME -->`` and ``<!-- end -->``, from the data.

A row whose cells are not in the data, as those of a peer that does not install, is left out.
"""

import re

from _store import FOLDER, TARGETS, load, measured, short, table

PAGE = FOLDER.parent / "README.md"
BLOCK = re.compile(r"(<!-- benchmarks: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
INTEGER, SOFT = "integer", "soft"


def write() -> None:
    PAGE.write_text(rendered(PAGE.read_text(), load()))


def rendered(page: str, sections: dict[str, dict]) -> str:
    """The page with its blocks made anew."""

    def block(found: re.Match) -> str:
        begin, name, end = found.groups()
        section = sections[name]
        text = BLOCKS[name](section["tables"])
        return f"{begin}{text}\n\nMeasured {measured(section)}.\n\n{end}"

    return BLOCK.sub(block, page)


def cells(tables: dict, title: str) -> dict[str, list[str]]:
    """First cell to the others, of the table whose title begins so; none if there is none."""
    for known, (_, rows) in tables.items():
        if known.startswith(title):
            return {row[0]: row[1:] for row in rows}
    return {}


def span(texts: list[str], unit: str = "") -> str:
    """The least and the greatest of some numbers, to two decimals."""
    low, high = min(map(float, texts)), max(map(float, texts))
    return f"{low:.2f} to {high:.2f}{unit}"


def logits(tables: dict) -> str:
    rows = tables["Value and gradient"][1]

    def ratios(labels: str, dtype: str = "") -> str:
        return span([row[4] for row in rows if row[1] == labels and dtype in row[0]])

    mean = cells(tables, TARGETS)["geometric mean of the ratios, all cells"][0]
    lines = [
        ["geometric mean of all", f"{float(mean):.2f}"],
        ["integer labels, float32", ratios(INTEGER, "float32")],
        ["integer labels, bfloat16", ratios(INTEGER, "bfloat16")],
        ["soft labels", ratios(SOFT)],
    ]
    return table(["value and gradient on CPU", "time over optax's"], lines)


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
    times = cells(tables, "Time in float32")
    lines = [
        [label, f"{float(times[what][1]):.2f}", f"{times[what][3]} MiB"]
        for label, what in HEAD_ROWS.items()
        if times[what][1]
    ]
    titles = ["value and gradients", "time over three products", "temporary memory"]
    return f"{table(titles, lines)}\n\n{growth(tables)} {errors(tables)}"


def growth(tables: dict) -> str:
    grown = list(cells(tables, "Memory against N").items())
    (first, begin), (last, end) = grown[0], grown[-1]
    return (
        f"From {int(first):,} to {int(last):,} tokens the head's memory goes from {begin[0]} to "
        f"{end[0]} MiB, that of optax from {begin[1]} to {end[1]}."
    )


def errors(tables: dict) -> str:
    start = "errors in bfloat16 of dx and dW over those of "
    shares = [
        f"{row[0]} of those of {what.removeprefix(start).partition(', spread')[0]}"
        for what, row in cells(tables, TARGETS).items()
        if what.startswith(start)
    ]
    return f"With bfloat16 inputs the errors of the two gradients are {'; '.join(shares)}."


COMPILED_ROWS = {
    "`linear_softmax_cross_entropy`, mean": "head, mean",
    "logits held, optax": "logits, optax",
    "logits held in float32, optax": "logits cast to float32, optax",
    "tokamax, `chunked_xla`": "tokamax head, chunked_xla",
}


def compile_only(tables: dict) -> str:
    title = "Temporary memory of value and gradients of the linear head"
    (titles, _), found = (
        tables[next(t for t in tables if t.startswith(title))],
        cells(tables, title),
    )
    chosen = [i for i, t in enumerate(titles[1:]) if t.endswith("bfloat16")]
    lines = [
        [label, *(found[what][i] for i in chosen)]
        for label, what in COMPILED_ROWS.items()
        if what in found
    ]
    platforms = [titles[1 + i].split("\n")[0] for i in chosen]
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
    found = cells(tables, "Eight CPU devices")
    lines = [
        [label, "; ".join(dict.fromkeys(sent(found[what]) for what in programs))]
        for label, programs in TRAFFIC_ROWS.items()
        if all(what in found for what in programs)
    ]
    return table(["value and gradients", "bytes between devices, per device"], lines)


def sent(row: list[str]) -> str:
    """Bytes in units of powers of ten, or the refusal's name."""
    if row[0] == "refused":
        return f"`{row[-1].partition(':')[0]}`"
    return short(int(row[0].replace(",", "")))


BLOCKS = {"logits": logits, "head": head, "compile_only": compile_only, "traffic": traffic}
