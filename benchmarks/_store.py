"""Reads and writes report.json, and the report and the README's figures that are made from it.

The data have a section for each benchmark: when and where it was measured, its records, and what
was left out. If a benchmark fails or cannot be run here, its section keeps the older figures and
gets a note.
"""

import argparse
import dataclasses
import datetime
import json
from pathlib import Path

from benchmarks._markdown import rendered, report
from benchmarks._records import Record

FOLDER = Path(__file__).parent
README = FOLDER.parent / "README.md"
QUICK = FOLDER.parent / "build" / "benchmarks"  # apart from the full figures
ORDER = "accuracy", "logits", "compile_time", "head", "compile_only", "traffic"
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Record)}


def command_line(what: str) -> argparse.ArgumentParser:
    """Returns a parser of the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    where = f"the folder of the report; default: {FOLDER.name}; if quick, {QUICK}"
    parser.add_argument("--output", type=Path, metavar="DIR", help=where)
    return parser


def folder_of(options: argparse.Namespace) -> Path:
    return options.output or (QUICK if options.quick else FOLDER)


def encoded(record: Record) -> str:
    """Returns a record as JSON, without the fields that have their default."""
    kept = {name: value for name, value in vars(record).items() if value != DEFAULTS[name]}
    return json.dumps(kept | {"value": record.value}, ensure_ascii=False)


def decoded(fields: dict) -> Record:
    return Record(**fields | {"shape": tuple(fields.get("shape", ()))})


def load(folder: Path = FOLDER) -> dict[str, dict]:
    """Returns the sections by name; none in a new folder."""
    path = folder / "report.json"
    sections = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return {
        name: section | {"records": [decoded(fields) for fields in section["records"]]}
        for name, section in sections.items()
    }


def save(sections: dict[str, dict], folder: Path) -> None:
    """Writes the data, with a line for each record, and the report."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = {name: sections[name] for name in ORDER if name in sections}
    texts = []
    for name, section in sections.items():
        head = json.dumps(section | {"records": []}, indent=1, ensure_ascii=False)
        lines = ",\n  ".join(map(encoded, section["records"]))
        texts.append(f'"{name}": ' + head.replace('"records": []', f'"records": [\n  {lines}\n ]'))
    (folder / "report.json").write_text("{\n" + ",\n".join(texts) + "\n}\n", "utf-8")
    (folder / "report.md").write_text(report(sections), "utf-8")


def write_readme() -> None:
    README.write_text(rendered(README.read_text("utf-8"), load()), "utf-8")


def note(name: str, lines: list[str], folder: Path) -> None:
    """Notes in a section that it was not measured today, and why."""
    sections = load(folder)
    section = sections.setdefault(name, {"title": name, "records": []})
    section["not_measured"] = {"date": str(datetime.date.today()), "why": lines}
    save(sections, folder)
