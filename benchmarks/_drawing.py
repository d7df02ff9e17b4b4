"""Draws records as horizontal bars, with whiskers from 10 to 90 % and red marks at the targets."""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks._records import Record, find

BLUE, ORANGE, GREEN = "tab:blue", "tab:orange", "tab:green"
COLORS = {"loss": BLUE, "head": BLUE, "xent_jax": BLUE, "three": "0.6", "tokamax": GREEN}
COLORS |= {"logits": ORANGE, "optax": ORANGE}


class Panel(NamedTuple):
    """Which records to draw, in a bar for each name, or one for each series of a name."""

    title: str
    fields: dict[str, str]
    names: str = "{program}"  # a template of a record's fields
    series: str = "study"  # a field
    scale: str = "linear"
    limits: tuple[float, float] | None = None


def draw(records: list[Record], panels: list[Panel], columns: int, size, figure: Figure) -> None:
    figure.set_size_inches(size)
    before: list[str] = []
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(-(-len(panels) // columns), columns, i + 1)
        axes.set(title=panel.title, xscale=panel.scale)
        if panel.limits:
            axes.set_xlim(panel.limits)
        found = find(records, **panel.fields)
        names = list(dict.fromkeys(record.fill(panel.names) for record in found))
        series = list(dict.fromkeys(getattr(record, panel.series) for record in found))
        for j, one in enumerate(series):
            mine = find(found, **{panel.series: one})
            at = np.array([names.index(record.fill(panel.names)) for record in mine])
            height = 0.8 / len(series)
            firsts = [record.program.split()[0].strip(",") for record in mine]
            by_program = len(series) == 1 or panel.series == "program"
            style = {"color": [COLORS[first] for first in firsts]} if by_program else {}
            bars(axes, mine, records, at + (j + 0.5) * height - 0.4, height, label=one, **style)
        shared, before = i % columns and before == names, names
        axes.set_yticks(range(len(names)), [""] * len(names) if shared else names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(alpha=0.3, axis="x")
        if len(series) > 1:
            axes.legend()


def bars(axes, mine: list[Record], records: list[Record], at: np.ndarray, height, **style) -> None:
    """Draws some bars, each with its number at the end, or with why there is none."""
    values = np.array([record.value or 0.0 for record in mine])
    low, high = (ends(mine, records, values, percent) for percent in ("10 %", "90 %"))
    limits = np.array([record.limit for record in mine], float)  # NaN, not drawn, for None
    spread = [values - low, high - values] if (high > low).any() else None
    axes.barh(at, values, height, xerr=spread, capsize=3, ecolor="0.3", **style)
    axes.vlines(limits, at - height / 2, at + height / 2, color="tab:red", lw=2.5)
    right = np.fmax(np.maximum(high, axes.get_xlim()[0]), limits)
    for record, value, x, y in zip(mine, values, right, at, strict=True):
        spec = "short" if record.unit == "B" else ",.0f" if value >= 100 else ".3g"
        text = record.note.partition(":")[0] if record.value is None else format(record, spec)
        axes.annotate(text, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=8)


def ends(mine: list[Record], records: list[Record], values: np.ndarray, percent: str) -> np.ndarray:
    """Returns the ends of the whiskers, which are the values themselves if none are known."""

    def key(record: Record, metric: str) -> tuple:
        return record.study, record.program, record.dtype, record.shape, record.case, metric

    known = {key(record, record.metric): record.value for record in records}
    pairs = zip(mine, values, strict=True)
    return np.array([known.get(key(r, f"{r.metric}, {percent}"), value) for r, value in pairs])
