"""Writes the README's figures from the data, between ``<!-- benchmarks: why -->`` and its end."""

import re
import textwrap

from benchmarks._markdown import LABELS
from benchmarks._records import Record, find, shown, span
from benchmarks._store import FOLDER, load

README = FOLDER.parent / "README.md"
BLOCK = re.compile(r"(<!-- benchmarks: why -->\n).*?(<!-- end -->)", re.DOTALL)
SOURCES = "accuracy", "logits", "compile_time", "head"


def write() -> None:
    README.write_text(rendered(README.read_text("utf-8"), load()), "utf-8")


def rendered(page: str, sections: dict[str, dict]) -> str:
    """Returns the page with a new block, or as it is if a benchmark was never run."""
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
