"""Renders report.md from the data: one table of everything, then a chapter for each benchmark.

The pages of the site include what stands between marks.
"""

from _overview import overview
from _tables import table

INTRO = """# Benchmarks

Accuracy, speed, memory and traffic, side by side with the peers that install. This report, and the
figures of the README and of docs/measured, are written by `python -m benchmarks`; with `--quick` it
takes minutes and does not change them. The data are in `report.json`. Ratios can be compared
between machines, times cannot."""


def report(sections: dict[str, dict]) -> str:
    chapters = map(chapter, sections, sections.values())
    return "\n\n".join([INTRO, marked("overview", overview(sections)), *chapters]) + "\n"


def marked(name: str, parts: list[str]) -> str:
    """Puts the parts between the marks by which the site finds them."""
    return "\n\n".join([f"<!-- --8<-- [start:{name}] -->", *parts, f"<!-- --8<-- [end:{name}] -->"])


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


def chapter(name: str, section: dict) -> str:
    """Returns the chapter of a benchmark: title, picture, question, notes and tables."""
    parts = [f"# {section['title']}"]
    if "date" in section and section.get("picture", True):
        parts.append(f"![{section['title']}]({name}.png)")
    return "\n\n".join([*parts, marked(name, body(section))])


def body(section: dict) -> list[str]:
    parts = []
    if "date" in section:
        parts += [section["question"], section["notes"], measured(section)]
        for title, (head, rows) in section["tables"].items():
            parts += [f"## {title}", table(head, rows)]
    if section.get("left_out"):
        parts.append("Left out:\n\n" + "\n".join(f"- {line}" for line in section["left_out"]))
    if missed := section.get("not_measured"):
        kept = "; the figures above are older" if "date" in section else ""
        why = "\n".join(missed["why"])
        parts.append(f"Not measured on {missed['date']}{kept}:\n\n```\n{why}\n```")
    return parts
