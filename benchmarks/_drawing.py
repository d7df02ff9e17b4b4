"""Draws the pictures of the report from its records: bars, or errors against the gap.

Bars have whiskers from 10 to 90 % where these are known, and red marks at the targets.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks._records import Record, find

BLUE, ORANGE, GREEN = "tab:blue", "tab:orange", "tab:green"
# The colors of programs and studies, by the beginning of their names.
COLORS = {"loss": BLUE, "head": BLUE, "xent_jax": BLUE, "tokamax": GREEN}
COLORS |= {"optax": ORANGE, "logits": ORANGE, "Value and gradient": BLUE, "Value alone": "tab:cyan"}
COLORS |= {"TPU v5e": "mediumpurple", "TPU v6e": "plum", "H100": "yellowgreen"}
STYLES = {"optax one-hot": "--", "jax.nn.log_softmax": ":"}  # of lines; the others are solid
WRONG = 2.0**23  # the error, in ulp of float32, of a number that is off by its own size


class Panel(NamedTuple):
    """The records to draw: a bar for each name, or for each series of each name."""

    title: str
    studies: tuple[str, ...]
    fields: dict[str, str]
    names: str = "{program}"  # a template of a record's fields
    series: str = "study"  # a record's field
    axes: dict[str, Any] = {}  # scales, limits and labels, as matplotlib names them


class Picture(NamedTuple):
    """A picture of several panels; the panels in a row show the same names."""

    size: tuple[float, float]
    columns: int
    panels: list[Panel]
    draw: Callable
    title: str = ""


def bars(axes: Axes, panel: Panel, found: list[Record], names: list[str], known: list) -> None:
    """Draws horizontal bars, each with its number at the end, or with why there is none."""
    kinds = list(dict.fromkeys(getattr(record, panel.series) for record in found))
    height = 0.8 / len(kinds)
    for record in found:
        kind, value = getattr(record, panel.series), record.value or 0.0
        y = names.index(record.fill(panel.names)) + height * (kinds.index(kind) + 0.5) - 0.4
        low, high = (end(record, known, of) for of in ("10 %", "90 %"))
        label, colored = (kind, kind) if len(kinds) > 1 else ("", record.program)
        color = next((one for name, one in COLORS.items() if colored.startswith(name)), "0.6")
        axes.barh(y, value, height, label=label, color=color)
        if high > low:
            errors = [value - low], [high - value]
            axes.errorbar(value, y, xerr=errors, fmt="none", capsize=3, ecolor="0.3")
        if record.limit is not None:
            ends = y - height / 2, y + height / 2
            axes.vlines(record.limit, *ends, color="tab:red", lw=2.5, label="the target")
        right = max(high, axes.get_xlim()[0], record.limit or 0)
        spec = "short" if record.unit == "B" else ",.0f" if value >= 100 else ".3g"
        text = record.note.partition(":")[0] if record.value is None else format(record, spec)
        axes.annotate(text, (right, y), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.margins(x=0.1)  # leaves room for the number at the end of the longest bar
    axes.grid(alpha=0.3, axis="x")
    shown = {label: one for one, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if shown:
        axes.legend(shown.values(), shown)


def end(record: Record, known: list[Record], percent: str) -> float:
    """Returns the end of a whisker, which is the value itself if none is known."""
    same = {name: getattr(record, name) for name in ("study", "program", "dtype", "shape", "case")}
    found = find(known, metric=f"{record.metric}, {percent}", **same)
    return found[0].value if found else record.value or 0.0


def lines(axes: Axes, panel: Panel, found: list[Record], names: list[str], known: list) -> None:
    """Draws the errors of each program against the gap, and the bound of those that have one."""
    for name in names:
        gaps, errors, bounds = zip(
            *((gap(r), max(r.value, 0.1), r.limit) for r in find(found, program=name)), strict=True
        )
        axes.plot(gaps, errors, STYLES.get(name, "-"), label=name, lw=3 if any(bounds) else 2)
        if any(bounds):
            axes.plot(gaps, bounds, color="black", ls=(0, (6, 4)), lw=1, label="the bound")
    for first in find(known, metric="first gap of an underflow"):
        band = {"color": "0.9", "label": "some classes below 1.2e-38"}
        axes.axvspan(first.value, max(map(gap, found)), **band)
    axes.axhline(WRONG, color="0.6", lw=1)
    axes.text(25, WRONG / 3, "100 % wrong", color="0.4", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(loc="center", bbox_to_anchor=(0.56, 0.6), fontsize=9)


def gap(record: Record) -> float:
    return float(record.case.removeprefix("gap "))


ERRORS = ("Errors against the gap",)
BOTH = "Value and gradient", "Value alone"
CPU = ("CPU devices",)
_GAPS = {"yscale": "log", "xlabel": "gap: the label's logit less the next"}
_WORST = {"ylabel": "error, units in the last place\n(worst of 4 rows; below 0.1 drawn at 0.1)"}
_CELLS = "{size} {dtype} {case}"
PICTURES = {
    "accuracy": Picture((15, 5), 3, [
        Panel("loss", ERRORS, {"metric": "loss"}, axes=_GAPS | _WORST),
        Panel("gradient at the label", ERRORS, {"metric": "label"}, axes=_GAPS),
        Panel("worst other gradient component", ERRORS, {"metric": "others"}, axes=_GAPS),
    ], lines, "float32 cross-entropy of 100 classes, the others N(0, 1), against 60 digits"),
    "logits": Picture((17, 10), 3, [
        Panel("time, xent_jax / optax", BOTH, {"metric": "ratio", "program": "xent_jax"}, _CELLS),
        *(
            Panel(f"{study}: memory, % of the logits", (study,), {"metric": "share"}, _CELLS,
                  "program", {"xscale": "symlog", "xlim": (0, 2e4)})
            for study in BOTH
        ),
    ], bars),
    "head": Picture((11, 12), 1, [
        Panel("time over that of the products", ("Time",), {"metric": "ratio"}),
        *(
            Panel(f"{study}, MiB", (study,), {"metric": "temp"}, "{size}", "program",
                  {"xscale": "log", "xlim": (8, 3e4)})
            for study in ("Memory against N", "Memory against V")
        ),
    ], bars),
    "compile_only": Picture((11, 7), 1, [
        Panel("Linear head, bfloat16: temporary memory, MiB", ("Heads",),
              {"dtype": "bfloat16", "metric": "temp"}, series="case"),
    ], bars),
    "traffic": Picture((15, 6.5), 2, [
        Panel("bytes that a device sends", CPU, {"metric": "bytes"},
              axes={"xscale": "log", "xlim": (1e3, 1e12)}),
        Panel("temporary memory of a device, MiB", CPU, {"metric": "temp"},
              axes={"xscale": "log", "xlim": (1e-2, 3e3)}),
    ], bars, "Value and gradients on eight devices, 2 data x 4 model"),
}  # fmt: skip


def save_pictures(sections: dict[str, dict], folder: Path) -> None:
    """Draws the pictures of those benchmarks that have one."""
    for name, section in sections.items():
        if section.get("picture"):
            drawn(section["records"], *PICTURES[name]).savefig(folder / f"{name}.png", dpi=120)


def drawn(records: list[Record], size, columns: int, panels: list[Panel], draw, title) -> Figure:
    """Returns a picture of some records."""
    figure = Figure(size, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(panels) // columns, columns, sharey="row", squeeze=False)
    chosen = [[r for s in p.studies for r in find(records, study=s, **p.fields)] for p in panels]
    for axes, panel, found in zip(grid.flat, panels, chosen, strict=True):
        if not found:
            raise LookupError(f"no records to draw for {panel.title!r}")
        beside = sum(chosen, []) if columns > 1 else found
        names = list(dict.fromkeys(record.fill(panel.names) for record in beside))
        axes.set(title=panel.title, **panel.axes)
        draw(axes, panel, found, names, records)
    return figure
