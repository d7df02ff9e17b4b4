"""The table of everything: the measurements of xent_jax beside those of its peers."""

from collections.abc import Callable

from _tables import read, sent, span, table

PEERS = "xent_jax", "optax", "tokamax", "jax.nn"


def overview(sections: dict[str, dict]) -> list[str]:
    """Returns the table of the sections that were measured, and its days; [] if none was."""
    known = {name: section for name, section in sections.items() if "date" in section}
    rows = [row for name, section in known.items() for row in PARTS[name](section["tables"])]
    days = ", ".join(sorted({section["date"] for section in known.values()}))
    quick = ", with --quick: do not quote these figures" * any(s["quick"] for s in known.values())
    return [table(["", *PEERS], rows), f"Measured {days}{quick}."] if rows else []


def accuracy(tables: dict) -> list[list[str]]:
    columns = "xent_jax", "optax integer", "", "jax.nn.log_softmax"
    rows = []
    for dtype in ("float32", "bfloat16"):
        found = dict(read(tables, dtype))["gap 20"]
        what = f"errors of loss / gradient at the label / elsewhere, ulp: gap 20, {dtype}"
        rows.append([what, *(found.get(column, "") for column in columns)])
    return rows


def logits(tables: dict) -> list[list[str]]:
    rows = []
    for labels, dtype in (("integer", "float32"), ("integer", "bfloat16"), ("soft", "")):
        ratios = [
            cells["ratio"]
            for first, cells in read(tables, "Value and gradient")
            if cells["labels"] == labels and dtype in first
        ]
        what = f"value and gradient of logits, time over optax's: {labels} labels {dtype}"
        rows.append([what.rstrip(), span(ratios), "1", "", ""])
    return rows


def compile_time(tables: dict) -> list[list[str]]:
    rows = read(tables, "Over optax")
    return [
        [f"{step} value and gradient, time over optax's", span([c[step] for _, c in rows])]
        + ["1", "", ""]
        for step in ("trace", "compile")
    ]


def beside(found: dict, programs: tuple[str, ...], of: Callable[[dict], str]) -> list[str]:
    """Returns a cell for each peer; it is empty for a peer that did not install."""
    return [of(found[program]) if program in found else "" for program in programs] + [""]


def both(cells: dict[str, str]) -> str:
    """Returns the errors of the two gradients; nothing for a peer that did not install."""
    return ", ".join(filter(None, (cells["dx spread 3"], cells["dW spread 3"])))


def head(tables: dict) -> list[list[str]]:
    programs = "head, value and gradients", "logits, optax", "tokamax head, chunked_xla"
    times = dict(read(tables, "Time in float32"))
    errors = dict(read(tables, "Errors in bfloat16"))
    models = "xent_jax head", *programs[1:]
    return [
        [
            "linear head in float32, time over three products",
            *beside(times, programs, lambda cells: cells["over the products"]),
        ],
        [
            "linear head in float32, temporary memory, MiB",
            *beside(times, programs, lambda cells: cells["temp MiB"]),
        ],
        [
            "linear head in bfloat16, errors of dx and dW",
            *beside(errors, models, both),
        ],
    ]


def compile_only(tables: dict) -> list[list[str]]:
    programs = "head, mean", "logits, optax", "tokamax head, chunked_xla"
    found = dict(read(tables, "Temporary memory of value and gradients of the linear head"))
    columns = [column for column in found["head, mean"] if column.endswith("bfloat16")]
    return [
        [
            f"linear head, temporary memory, MiB: {column}",
            *beside(found, programs, lambda cells, column=column: cells[column]),
        ]
        for column in columns
    ]


def traffic(tables: dict) -> list[list[str]]:
    found = dict(read(tables, "Eight CPU devices"))
    losses = "loss, automatic", "optax loss, automatic", ""
    heads = (
        "head, shard_linear_head",
        "optax of held logits, automatic",
        "tokamax head, chunked_xla, automatic",
    )
    return [
        ["loss of logits on 2 x 4 devices, sent per device", *beside(found, losses, sent)],
        ["linear head on 2 x 4 devices, sent per device", *beside(found, heads, sent)],
    ]


PARTS = {
    "accuracy": accuracy,
    "logits": logits,
    "compile_time": compile_time,
    "head": head,
    "compile_only": compile_only,
    "traffic": traffic,
}
