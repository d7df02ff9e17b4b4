"""The picture of logits.py."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of backend

OVER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # texts over the limits' lines


def plot(cells: list, time_limit: float, memory_limit: float, path: Path) -> None:
    """Of the cells' times over optax's, and of both libraries' memory; limits are drawn."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(11, 8), sharex=True, layout="constrained")
    plot_times(top, cells, time_limit)
    plot_memory(bottom, cells, memory_limit)
    names = [f"{c.n}x{c.k}\n{c.dtype}\n{c.labels}" for c in cells]
    bottom.set_xticks(np.arange(len(cells)), names)
    figure.savefig(path, dpi=130)


def plot_times(axes, cells: list, limit: float) -> None:
    ratios = np.array([c.ratio() for c in cells])
    low, high = (np.array([c.ratio(percentile=p) for c in cells]) for p in (10, 90))
    spread = [ratios - low, high - ratios]
    axes.bar(range(len(cells)), ratios, 0.6, yerr=spread, capsize=4, color="tab:blue", ecolor="0.2")
    style = {"ha": "center", "weight": "bold", "textcoords": "offset points", "bbox": OVER}
    for i, ratio in enumerate(ratios):
        axes.annotate(f"{ratio:.2f}", (i, high[i]), (0, 4), **style)
    axes.axhline(1, color="black", linewidth=1, label="optax: 1")
    axes.axhline(limit, color="tab:red", linestyle="--", label=f"limit: {limit}")
    axes.set_ylabel("time, xent_jax / optax\n(median; whiskers 10 to 90 %)")
    axes.set_title("Value and gradient of the mean cross-entropy: time")
    axes.set_ylim(0, 1.3 * max(limit, *high))  # room for the legend
    axes.legend(loc="upper right", ncols=2)


def plot_memory(axes, cells: list, limit: float) -> None:
    for shift, name, color in [(-0.2, "optax", "tab:orange"), (0.2, "xent_jax", "tab:blue")]:
        temp = [c.temp(name) for c in cells]
        bars = axes.bar(np.arange(len(cells)) + shift, temp, 0.38, color=color, label=name)
        texts = [f"{t:.0f}" if t >= 10 else f"{t:.1g}" for t in temp]
        axes.bar_label(bars, texts, padding=3, fontsize=8, bbox=OVER)
    axes.axhline(limit, color="tab:red", linestyle="--", label=f"limit: {limit:g} %")
    axes.set_yscale("log")
    axes.margins(y=0.25)
    axes.set_ylabel("temporary memory\n(% of the logits' bytes, log scale)")
    axes.set_title("Temporary memory (the limit is for float32 with 1000 classes or more)")
    axes.legend(loc="upper right", ncols=3)
