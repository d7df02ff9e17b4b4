"""The picture of head.py."""

from pathlib import Path

import matplotlib
import numpy as np
from _head_memory import FIXED
from _head_sizes import Shape

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of backend

COLORS = {"three": "0.6", "head": "tab:blue", "logits": "tab:orange", "tokamax": "tab:green"}


def plot(rows: list, shape: Shape, grown: dict[str, np.ndarray], path: Path) -> None:
    figure, axes = plt.subplot_mosaic(
        [["time", "time"], ["N", "V"]], figsize=(11, 9), layout="constrained"
    )
    plot_times(axes["time"], rows, shape)
    for axis, found in grown.items():
        plot_growth(axes[axis], axis, found)
    figure.savefig(path, dpi=130)


def plot_times(axes, rows: list, shape: Shape) -> None:
    ratios = np.array([row.ratio() for row in rows])
    spread = [ratios - [r.ratio(10) for r in rows], [r.ratio(90) for r in rows] - ratios]
    places = np.arange(len(rows))
    colors = [COLORS[row.what.split()[0].strip(",")] for row in rows]
    axes.barh(places, ratios, 0.7, xerr=spread, capsize=4, color=colors, ecolor="0.2")
    for i, row in enumerate(rows):
        axes.text(0.02, i, f"{row.ratio():.2f}", va="center", color="white", weight="bold")
        if row.target:
            label = "the target" if i == 1 else None
            axes.vlines(row.target, i - 0.45, i + 0.45, color="tab:red", lw=2.5, label=label)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(places, [row.what for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("time over that of the products (median; whiskers 10 to 90 %)")
    axes.set_title(f"Time in float32, {shape}")
    axes.set_xlim(right=1.12 * max(row.ratio(90) for row in rows))
    axes.legend(loc="upper right")


def plot_growth(axes, axis: str, found: np.ndarray) -> None:
    sizes, ours, theirs = found.T
    axes.plot(sizes, theirs, "o-", color=COLORS["logits"], label="logits, optax")
    axes.plot(sizes, ours, "o-", color=COLORS["head"], lw=2.5, label="xent_jax head")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.set(title=f"Temporary memory, {FIXED[axis]}", xlabel=axis, ylabel="MiB")
    axes.grid(alpha=0.3)
    axes.legend()
