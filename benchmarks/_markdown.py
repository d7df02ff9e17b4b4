"""Renders report.md from the data, and the figures of the README.

The report has one table of everything, then a chapter for each benchmark. The pages of the site
include what stands between marks.
"""

import re
import textwrap

from benchmarks._records import Record, find, shown, span, table
from benchmarks._views import tables

INTRO = """# Benchmarks

Accuracy, speed, memory and traffic, side by side with the peers that install. This report and the
README's figures are written by `python -m benchmarks`; with `--quick` it takes minutes and changes
neither. The data are in `report.json`. Ratios can be compared between machines, times cannot."""


def report(sections: dict[str, dict]) -> str:
    chapters = map(chapter, sections, sections.values())
    return "\n\n".join([INTRO, marked("overview", overview(sections)), *chapters]) + "\n"


def marked(name: str, parts: list[str]) -> str:
    """Puts the parts between the marks by which the site finds them."""
    return "\n\n".join([f"<!-- --8<-- [start:{name}] -->", *parts, f"<!-- --8<-- [end:{name}] -->"])


def chapter(name: str, section: dict) -> str:
    """Returns the chapter of a benchmark: title, picture, question, notes and tables."""
    parts, title = [], section["title"]
    if "date" in section:
        parts += [section["question"], section["notes"], measured(section)]
        for heading, rows in tables(section["records"]).items():
            parts += [f"## {heading}", table(*rows)]
    if section.get("left_out"):
        parts.append("Left out:\n\n" + "\n".join(f"- {line}" for line in section["left_out"]))
    if missed := section.get("not_measured"):
        kept = "; the figures above are older" if "date" in section else ""
        why = "\n".join(missed["why"])
        parts.append(f"Not measured on {missed['date']}{kept}:\n\n```\n{why}\n```")
    picture = [f"![{title}]({name}.png)"] if section.get("picture") else []
    return "\n\n".join([f"# {title}", *picture, marked(name, parts)])


def measured(section: dict) -> str:
    """Says when, where and with which versions a section was measured."""
    text = f"Measured {section['date']}; {section['machine']}."
    if busy := section.get("others"):
        text += (
            f" Other programs kept {busy} cores busy meanwhile, which makes times less reliable."
        )
    if section["quick"]:
        text += " Quick: small sizes and few repeats; do not quote these figures."
    return text


# ---------------------------------------------------------------- the table of everything

PEERS = "xent_jax", "optax", "tokamax", "jax.nn"
LABELS = {
    "integer labels, float32": {"case": "integer", "dtype": "float32"},
    "integer labels, bfloat16": {"case": "integer", "dtype": "bfloat16"},
    "soft labels": {"case": "soft"},
}
_LIBRARIES = "xent_jax", "optax integer", "", "jax.nn.log_softmax"
_HEADS = "head, value and gradients", "logits, optax", "tokamax head, chunked_xla"
_COMPILED = "head, mean", *_HEADS[1:]
_LOSSES = "loss, automatic", "optax loss, automatic"
_SHARDED = "head, shard_linear_head", "optax of held logits, automatic", f"{_HEADS[2]}, automatic"
_TIME, _SENT = {"study": "Time"}, {"study": "CPU devices"}
BESIDE = [  # each row: its title, a template, a program for each peer, fields of the records
    *(
        (f"errors of loss / gradient at the label / elsewhere, ulp: gap 20, {dtype}",
         "{loss} / {label} / {others}", _LIBRARIES,
         {"study": "Errors", "dtype": dtype, "case": "gap 20"})
        for dtype in ("float32", "bfloat16")
    ),
    ("linear head in float32, time over three products", "{ratio:.3f}", _HEADS, _TIME),
    ("linear head in float32, temporary memory, MiB", "{temp:.0f}", _HEADS, _TIME),
    ("linear head in bfloat16, errors of dx and dW", "{dx}, {dW}",
     ("xent_jax head", *_HEADS[1:]), {"study": "Errors of loss / dx / dW", "case": "spread 3"}),
    *(
        (f"linear head, temporary memory, MiB: {device} bfloat16", "{temp:.2f}",
         _COMPILED, {"study": "Heads", "dtype": "bfloat16", "case": device})
        for device in ("TPU v5e", "TPU v6e", "H100")
    ),
    ("loss of logits on 2 x 4 devices, sent per device", "{bytes:short}", _LOSSES, _SENT),
    ("linear head on 2 x 4 devices, sent per device", "{bytes:short}", _SHARDED, _SENT),
]  # fmt: skip
SPANS = [  # rows of the least and the greatest times over optax's: metric and study, other fields
    *(
        (f"{study.lower()}, time over optax's: logits: {kind}", "ratio", study, fields)
        for study in ("Value and gradient", "Value alone") for kind, fields in LABELS.items()
    ),
    ("value and gradient with options, time over optax's: logits",
     "ratio", "Options, value and gradient", {}),
    ("value and gradient, time over optax's: trace", "trace", "Over optax's", {}),
    ("value and gradient, time over optax's: compile", "compile", "Over optax's", {}),
]  # fmt: skip


def overview(sections: dict[str, dict]) -> list[str]:
    """Returns the table of all measured sections and a line of their dates; [] if none was."""
    known = [section for section in sections.values() if "date" in section]
    rows = []
    for section in known:
        records = section["records"]
        for what, metric, study, fields in SPANS:
            if found := find(records, program="xent_jax", study=study, metric=metric, **fields):
                rows.append([what, span(found, ".3g"), "1", "", ""])
        for what, template, programs, fields in BESIDE:
            cells = [shown(records, template, program=p, **fields) for p in programs]
            if any(cells):
                rows.append([what, *cells, *[""] * (len(PEERS) - len(cells))])
    days = ", ".join(sorted({section["date"] for section in known}))
    quick = ", with --quick: do not quote these figures" * any(s["quick"] for s in known)
    return [table(["", *PEERS], rows), f"Measured {days}{quick}."] if rows else []


# ---------------------------------------------------------------- the README

BLOCK = re.compile(r"(<!-- benchmarks: why -->\n).*?(<!-- end -->)", re.DOTALL)
SOURCES = "accuracy", "logits", "compile_time", "head"


def rendered(page: str, sections: dict[str, dict]) -> str:
    """Returns the README with new figures, or as it was if some benchmark was never run."""
    used = [sections.get(name, {}) for name in SOURCES]
    if not all("date" in section for section in used):
        return page
    text = f"{why(*(section['records'] for section in used))}\n\n{origin(used)}\n"
    return BLOCK.sub(lambda found: found[1] + text + found[2], page)


def origin(sections: list[dict]) -> str:
    """Returns the days of measurement and the versions of JAX; the report has the rest."""
    days = sorted({section["date"] for section in sections})
    versions = sorted({re.search(r"jax [\d.]+", s["machine"]).group() for s in sections})
    text = f"Measured {', '.join(days)} with {' and '.join(versions)}"
    if busy := sorted({s["others"] for s in sections if s.get("others")}):
        text += f" while other programs kept {' and '.join(busy)} cores busy"
    return f"{text}."


def why(*sections: list[Record]) -> str:
    """Returns three of the README's reasons, with a figure each, and then what they cost."""
    accuracy, logits, compile_time, head = sections
    ratios = find(logits, program="xent_jax", metric="ratio")
    at = {"study": "Relative errors", "case": "gap 20", "metric": "loss"}
    errors = "{xent_jax}, and optax's is {optax integer} ([accuracy](docs/measured/accuracy.md))."
    both, alone = (
        shown(logits, "{found:.3f}", study="Targets", program=f"{study}: geometric mean")
        for study in ("value and gradient", "value alone")
    )
    integer = find(ratios, study="Value and gradient", **LABELS["integer labels, float32"])
    slowest = max(record.value for record in find(ratios, study="Value alone"))
    traced = max(r.value for r in find(compile_time, study="Over optax's", metric="trace"))
    grown = find(head, study="Memory against N", metric="temp")[-2:]
    tokens, _, classes = grown[0].shape
    held = "{xent_jax head:,.0f} MiB of temporary memory, and optax on held logits takes "
    held += "{logits, optax:,.0f} MiB ([memory](docs/measured/head.md))."
    temps = "tokamax's head takes {tokamax head, chunked_xla:.0f} MiB of temporary memory where "
    temps += "ours takes {head, value and gradients:.0f} MiB."
    lines = [
        "- **Exact.** When the label's logit leads by 20, the relative error of the loss is "
        + shown(accuracy, errors, by="program", **at),
        f"- **Fast.** On CPU, value and gradient take {both} times as long as optax's, in the "
        "geometric mean over labels, sizes and dtypes ([time](docs/measured/logits.md)).",
        f"- **Small.** For {tokens:,} tokens and a vocabulary of {classes:,}, the head takes "
        + shown(grown, held, by="program"),
        "",
        f"The costs: on CPU, integer labels in float32 take {span(integer, '.3f')} times as long "
        f"as optax's, the value alone takes {alone} times as long in the geometric mean and "
        f"{slowest:.3f} times at most, and [tracing](docs/measured/compile_time.md) takes up to "
        f"{traced:.2f} times as long. "
        + shown(head, temps, by="program", study="Time", metric="temp"),
    ]
    style = {"width": 118, "break_long_words": False, "break_on_hyphens": False}
    return "\n".join(
        textwrap.fill(line, subsequent_indent="  " * line.startswith("-"), **style)
        for line in lines
    )
