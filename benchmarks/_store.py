"""Reads and writes report.json, the data of the benchmarks.

The data have a section for each benchmark: when and where it was measured, its tables, and what was
left out. If a benchmark fails or cannot be run here, its section keeps the older figures and gets a
note.
"""

import datetime
import json
from pathlib import Path

from _markdown import report

FOLDER = Path(__file__).parent
QUICK = FOLDER.parent / "build" / "benchmarks"  # so that quick figures replace no others
ORDER = "accuracy", "logits", "compile_time", "head", "compile_only", "traffic"


def load(folder: Path = FOLDER) -> dict[str, dict]:
    """Returns the sections by name; none in a new folder."""
    path = folder / "report.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def save(sections: dict[str, dict], folder: Path) -> None:
    """Writes the data, and the report made from them."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = {name: sections[name] for name in ORDER if name in sections}
    text = json.dumps(ordered, indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", "utf-8")
    (folder / "report.md").write_text(report(load(folder)), "utf-8")


def note(name: str, lines: list[str], folder: Path) -> None:
    """Notes in a section that it was not measured today, and why."""
    sections = load(folder)
    today = str(datetime.date.today())
    sections.setdefault(name, {"title": name})["not_measured"] = {"date": today, "why": lines}
    save(sections, folder)
