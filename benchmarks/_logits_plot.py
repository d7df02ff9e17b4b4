"""The picture of logits.py."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of backend

OVER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # texts over the lines
SIDES = [(-0.2, "tab:blue"), (0.2, "tab:cyan")]


def plot(measured: dict[str, list], path: Path) -> None:
    """Draws the times over optax's side by side, and below them the memory of both libraries."""
    figure, (top, *others) = plt.subplots(
        1 + len(measured), 1, figsize=(15, 12), sharex=True, layout="constrained"
    )
    plot_times(top, measured)
    for axes, (what, cells) in zip(others, measured.items(), strict=True):
        plot_memory(axes, what, cells)
    names = [f"{c.n}\nx{c.k}\n{c.dtype}\n{c.labels}" for c in next(iter(measured.values()))]
    others[-1].set_xticks(range(len(names)), names)
    figure.savefig(path, dpi=110)


def plot_times(axes, measured: dict[str, list]) -> None:
    style = {"ha": "center", "fontsize": 9, "textcoords": "offset points", "bbox": OVER}
    for (shift, color), (what, cells) in zip(SIDES, measured.items(), strict=True):
        at = np.arange(len(cells)) + shift
        low, ratios, high = (np.array([c.ratio(percentile=p) for c in cells]) for p in (10, 50, 90))
        spread = [ratios - low, high - ratios]
        axes.bar(at, ratios, 0.38, yerr=spread, capsize=3, color=color, ecolor="0.4", label=what)
        for x, ratio, top in zip(at, ratios, high, strict=True):
            axes.annotate(f"{ratio:.2f}", (x, top), (0, 4), **style)
    axes.axhline(1, color="black", linewidth=1, label="optax: 1")
    axes.margins(x=0.01, y=0.2)
    axes.set_ylabel("time, xent_jax / optax\n(median; whiskers 10 to 90 %)")
    axes.set_title("Mean cross-entropy: time")
    axes.legend(loc="upper right", ncols=3)


def plot_memory(axes, what: str, cells: list) -> None:
    for shift, name, color in [(-0.2, "optax", "tab:orange"), (0.2, "xent_jax", "tab:blue")]:
        temp = [c.temp(name) for c in cells]
        bars = axes.bar(np.arange(len(cells)) + shift, temp, 0.38, color=color, label=name)
        texts = [f"{t:.0f}" if t >= 10 else f"{t:.1g}" for t in temp]
        axes.bar_label(bars, texts, padding=3, fontsize=8, bbox=OVER)
    limits = [c.memory_limit() or np.nan for c in cells]
    at = np.arange(len(cells))
    axes.hlines(limits, at - 0.45, at + 0.45, "tab:red", "--", label="limit")
    axes.set_yscale("symlog", linthresh=1e-3)  # it has room for 0
    axes.set_ylim(0, 2e4)
    axes.margins(x=0.01)
    axes.set_ylabel("temporary memory\n(% of the logits' bytes, log scale)")
    axes.set_title(f"Temporary memory, {what}")
    axes.legend(loc="upper right", ncols=3)
