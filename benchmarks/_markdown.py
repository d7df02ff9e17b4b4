"""report.md, rendered from the data: one table of all, then a chapter for each benchmark.

What stands between marks is what a page of the site shows.
"""

from _overview import overview
from _tables import table

INTRO = """# Benchmarks

Accuracy, speed, memory and traffic, side by side with the peers that install. Made by
`python -m benchmarks`, which also writes the README's figures; `--quick` takes minutes and leaves
these be. The data are in `report.json`. Ratios bear comparison between machines, times do not."""


def report(sections: dict[str, dict]) -> str:
    chapters = map(chapter, sections, sections.values())
    return "\n\n".join([INTRO, marked("overview", overview(sections)), *chapters]) + "\n"


def marked(name: str, parts: list[str]) -> str:
    """Between the marks by which the site finds them."""
    return "\n\n".join([f"<!-- --8<-- [start:{name}] -->", *parts, f"<!-- --8<-- [end:{name}] -->"])


def measured(section: dict) -> str:
    """When, where and with what."""
    text = f"Measured {section['date']}; {section['machine']}."
    if busy := section.get("others"):
        text += (
            f" Other programs kept {busy} cores busy meanwhile: the more, the less sure are times"
        )
        text += " and verdicts on them."
    if section["quick"]:
        text += " Quick: small sizes, few repeats, not to be quoted."
    return text


def chapter(name: str, section: dict) -> str:
    """Picture, question, how to read it, tables, and what is not in them."""
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
        kept = "; the above is of before" if "date" in section else ""
        why = "\n".join(missed["why"])
        parts.append(f"Not measured on {missed['date']}{kept}:\n\n```\n{why}\n```")
    return parts
