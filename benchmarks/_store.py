"""The benchmarks' data, report.json, and the report that is rendered from it, report.md.

The data have a section for each benchmark: when and where it was measured, its tables as they are
read, what was left out. A section that fails, or that cannot be measured here, keeps what was
measured before, with a note.
"""

import datetime
import json
from pathlib import Path

FOLDER = Path(__file__).parent
QUICK = FOLDER.parent / "build" / "benchmarks"  # so that quick figures replace no others
ORDER = "accuracy", "logits", "head", "compile_only", "traffic"
TARGETS = "Targets"
INTRO = """# Benchmarks

Accuracy, speed, memory and traffic, side by side with the peers that install. Made by
`python -m benchmarks`, which also writes the README's figures; `--quick` takes minutes and leaves
these be. The data are in `report.json`. Ratios bear comparison between machines, times do not."""


def load(folder: Path = FOLDER) -> dict[str, dict]:
    """Name to section; nothing yet in a new folder."""
    path = folder / "report.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(sections: dict[str, dict], folder: Path) -> None:
    """The data, and the report with them."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = {name: sections[name] for name in ORDER if name in sections}
    text = json.dumps(ordered, indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n")
    (folder / "report.md").write_text(report(ordered))


def note(name: str, lines: list[str], folder: Path) -> None:
    """Says of a section that today it was not measured, and why."""
    sections = load(folder)
    today = str(datetime.date.today())
    sections.setdefault(name, {"title": name})["not_measured"] = {"date": today, "why": lines}
    save(sections, folder)


# ---------------------------------------------------------------- as Markdown


def report(sections: dict[str, dict]) -> str:
    return (
        "\n\n".join([INTRO, origins(sections), *map(chapter, sections, sections.values())]) + "\n"
    )


def origins(sections: dict[str, dict]) -> str:
    """Days and machines, each with what was measured there."""
    found: dict[str, list[str]] = {}
    for section in sections.values():
        if "date" in section:
            found.setdefault(measured(section), []).append(section["title"])
    return "\n".join(f"- {', '.join(titles)}: {where}" for where, titles in found.items())


def measured(section: dict) -> str:
    quick = "; quick: small sizes, few repeats, not to be quoted" if section["quick"] else ""
    return f"{section['date']}; {section['machine']}{quick}"


def chapter(name: str, section: dict) -> str:
    """Question, picture, how to read it, tables, and what is not in them."""
    parts = [f"## {section['title']}"]
    if "date" in section:
        parts += [section["question"], f"![{section['title']}]({name}.png)", section["notes"]]
        for title, (head, rows) in section["tables"].items():
            parts += [f"### {title}", table(head, rows)]
    if section.get("left_out"):
        parts.append("Left out:\n\n" + "\n".join(f"- {line}" for line in section["left_out"]))
    if missed := section.get("not_measured"):
        kept = "; the above is of before" if "date" in section else ""
        why = "\n".join(missed["why"])
        parts.append(f"Not measured on {missed['date']}{kept}:\n\n```\n{why}\n```")
    return "\n\n".join(parts)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table, its columns of numbers on the right."""
    columns = zip(*rows, strict=True)
    rule = ["---:" if all(c == "" or c[0].isdigit() for c in cells) else "---" for cells in columns]
    lines = [[h.replace("\n", " ") for h in head], rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def short(size: float) -> str:
    """As B to TB, of powers of ten."""
    for step, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size} B"
