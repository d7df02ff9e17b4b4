"""The picture of traffic.py."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
from _losses import MIB
from _mesh_programs import PROGRAMS
from _tables import short
from _topologies import SMALL
from _traffic_tables import Found

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of backend

COLORS = {"loss": "tab:blue", "head": "tab:blue", "optax": "tab:orange", "tokamax": "tab:green"}


def plot(found: dict[str, Found], path: Path) -> None:
    """Draws bytes and memory on logarithmic axes, because they differ by orders of magnitude."""
    figure, (sent, temp) = plt.subplots(
        1, 2, figsize=(13, 6.5), layout="constrained", sharey=True, width_ratios=(3, 2)
    )
    rows = [found[program.what] for program in PROGRAMS]
    targets = [program.target or 0 for program in PROGRAMS]
    sent.set(title="sent between devices, bytes per device", xscale="log", xlim=(1e3, 1e12))
    temp.set(title="temporary memory per device, MiB", xscale="log", xlim=(1e-2, 3e3))
    bars(sent, rows, [row.bytes() for row in rows], targets, short)
    bars(temp, rows, [row.temp / MIB for row in rows], [0] * len(rows), "{:.3g}".format)
    sent.set_yticks(range(len(rows)), [program.what for program in PROGRAMS])
    sent.invert_yaxis()
    sent.legend(loc="upper right")
    figure.suptitle(f"Value and gradients on eight devices, 2 data x 4 model, {SMALL}")
    figure.savefig(path, dpi=130)


def bars(axes, rows, values: list[float], targets: list[int], label: Callable) -> None:
    colors = [COLORS[program.what.split()[0].strip(",")] for program in PROGRAMS]
    axes.barh(range(len(rows)), values, 0.7, color=colors)
    axes.grid(alpha=0.3, axis="x")
    named = "the target"
    for i, (row, value, target) in enumerate(zip(rows, values, targets, strict=True)):
        text = row.refused() or label(value)
        end = max(value, target) or axes.get_xlim()[0]  # an error has no bar
        axes.annotate(text, (end, i), (5, 0), textcoords="offset points", va="center")
        if target:
            axes.vlines(target, i - 0.45, i + 0.45, color="tab:red", lw=2.5, label=named)
            named = None
    first = next(i for i, program in enumerate(PROGRAMS) if "kernel" in program.layout)
    axes.axhline(first - 0.5, color="0.6", lw=0.8)  # losses of logits, then of a linear layer
