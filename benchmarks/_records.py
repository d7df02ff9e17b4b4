"""Records are the numbers that the benchmarks measure; tables and sentences are made from them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class Record:
    """One number, its unit, and what it was measured for.

    Formatting a record shows its value, in the format of its unit unless another one is given;
    "short" is a format for bytes. Without a value, formatting raises LookupError.
    """

    study: str  # the table that it stands in
    program: str
    metric: str
    value: float | None  # None where there is no number; the note says why
    unit: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()  # of the logits, or tokens, width and vocabulary
    case: str = ""  # labels, options, gap or device
    limit: float | None = None  # the target: the value shall be at most this
    note: str = ""

    def __format__(self, spec: str) -> str:
        if self.value is None:
            raise LookupError(f"no number in {self!r}")
        if spec:
            return short(self.value) if spec == "short" else format(self.value, spec)
        whole = isinstance(self.value, int)
        return f"{self.value:,}" if whole else FORMATS.get(self.unit, "{:.4g}".format)(self.value)

    @property
    def size(self) -> str:
        pairs = zip("NDV", self.shape, strict=True) if len(self.shape) == 3 else ()
        return " ".join(f"{x}={n}" for x, n in pairs) or " x ".join(map(str, self.shape))

    def fill(self, template: str) -> str:
        """Fills a template with the record's fields."""
        return template.format_map(vars(self) | {"size": self.size})


def short(size: float) -> str:
    """Returns a size in B to TB, which are powers of ten."""
    for step, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size:.0f} B"


def ulps(error: float) -> str:
    return f"{error:.1g}" if error >= 1e3 else f"{error:.0f}" if error >= 10 else f"{error:.1f}"


FORMATS = {  # by unit; other units have four digits
    "ulp": ulps,
    "relative": lambda error: f"{error:.0%}" if error >= 0.01 else f"{error:.0e}",
    "of the largest": "{:.1e}".format,
    "s": lambda time: f"{1e3 * time:.2f} ms" if time >= 1e-4 else f"{1e6 * time:.1f} us",
    "MiB": "{:.2f}".format,
}
UNITS = {"time": "ms", "temp": "MiB", "share": "%", "bytes": "B"}  # by metric


def records(
    study: str, program: str, numbers: Mapping[str, float], limits: Mapping | None = None, **fields
) -> list[Record]:
    """Returns a record for each metric; ``limits`` has the targets of some of them."""
    limits = limits or {}
    return [
        Record(study, program, m, value, limit=limits.get(m), **{"unit": UNITS.get(m, "")} | fields)
        for m, value in numbers.items()
    ]


def target(what: str, found: float, limit: float, unit: str = "") -> Record:
    """Returns a record for the table of targets."""
    return Record("Targets", what, "found", found, unit, limit=limit)


class Goal(NamedTuple):
    """A target for the largest value of some records, or for another function of their values."""

    what: str
    limit: float
    fields: dict  # that select the records
    unit: str = ""
    of: Callable = max


def reached(known: list[Record], goals: Iterable[Goal]) -> list[Record]:
    """Returns a record for each target, except for those of which nothing was measured."""
    measured = [(goal, [r.value for r in find(known, **goal.fields)]) for goal in goals]
    return [target(g.what, g.of(values), g.limit, g.unit) for g, values in measured if values]


def find(known: Iterable[Record], **fields) -> list[Record]:
    """Returns the records with those fields."""
    wanted = fields.items()
    return [r for r in known if all(getattr(r, name) == value for name, value in wanted)]


def shown(known: Iterable[Record], template: str, by: str = "metric", **fields) -> str:
    """Fills a template that names metrics, or another field, of the records with those fields.

    Returns an empty string if one of these is missing.
    """
    try:
        return template.format_map({getattr(one, by): one for one in find(known, **fields)})
    except LookupError:
        return ""


def span(known: Iterable[Record], spec: str) -> str:
    """Returns the least and the greatest of some records."""
    values = [record.value for record in known]
    return f"{min(values):{spec}} to {max(values):{spec}}"


def pivot(known: Iterable[Record], rows: Mapping[str, str], columns: str) -> tuple[list, list]:
    """Returns head and rows of a table.

    The templates of rows and columns say where a record stands. Slashes separate several records in
    one cell. A column of numbers with targets is followed by one that says if they are reached.
    """
    cells: dict[tuple, dict[str, list[str]]] = {}
    for record in known:
        row = cells.setdefault(tuple(record.fill(title) for title in rows.values()), {})
        column, refused = record.fill(columns).strip(), record.value is None
        row.setdefault(column, []).append(f"refused: {record.note}" if refused else f"{record}")
        if record.limit is not None:
            answer = "missed" if refused or not record.value <= record.limit else "reached"
            row.setdefault(f"{column}, target", []).append(f"<= {record.limit:,}: {answer}")
    titles = list(dict.fromkeys(title for row in cells.values() for title in row))
    lines = [
        [*first, *(" / ".join(row.get(title, [])) for title in titles)]
        for first, row in cells.items()
    ]
    return [*rows, *titles], lines


def table(head: list[str], rows: list[list[str]]) -> str:
    """Returns a table in Markdown, with columns of numbers aligned to the right."""
    columns = zip(*rows, strict=True)
    rule = ["---:" if all(c == "" or c[0].isdigit() for c in cells) else "---" for cells in columns]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rows])
