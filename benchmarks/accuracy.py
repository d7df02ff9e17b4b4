"""Errors of loss and gradient in units of the last place, beside optax and jax.nn.

    pip install "xent-jax[bench]"
    python benchmarks/accuracy.py [--quick] [--output DIR]

Every number is compared with a 60-digit reference of mpmath. A cell of the tables has three errors,
each the worst of its rows: of the loss, of the gradient at the label, and of the other components
of the gradient. The plot shows them against the gap, which is the label's logit minus the largest
other one. Results below the smallest normal number, which XLA:CPU flushes to 0, are left out. In
the grey band, single exponentials are below it, though their sum need not be.

Prints the tables; writes accuracy.png and a section of report.md. Takes about a minute; --quick
has fewer gaps and no vocabulary.
"""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from _report import console, parser, publish, run
from rich.progress import Progress

import xent_jax

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of backend

sys.path.append(str(Path(__file__).parent.parent))  # the references stand beside the tests
from tests import exact, measure  # noqa: E402

DTYPES = ("float32", "bfloat16")
QUANTITIES = ("loss", "gradient at the label", "worst other gradient component")
ROWS = 8


def with_log_softmax(z, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[..., None], axis=-1)[..., 0]


LIBRARIES = {
    "optax one-hot": lambda z, y: optax.softmax_cross_entropy(z, jax.nn.one_hot(y, z.shape[-1])),
    "optax integer": optax.softmax_cross_entropy_with_integer_labels,
    "jax.nn.log_softmax": with_log_softmax,
    "xent_jax": xent_jax.softmax_cross_entropy_with_integer_labels,
}


@functools.cache
def compiled(library):
    return jax.jit(functools.partial(measure.reverse, LIBRARIES[library]))


def draw(rng, k=100, gap=None, n=ROWS, scale=1.0, offset=0.0, masked=0.0):
    """Draws n rows of k logits with their labels."""
    z, y = scale * rng.normal(size=(n, k)), rng.integers(0, k, n)
    rows = np.arange(n)
    if gap is not None:
        z[rows, y] = -np.inf
        z[rows, y] = z.max(axis=1) + gap
    out = rng.random((n, k)) < masked
    out[rows, y] = False
    return np.where(out, -np.inf, z + offset), y


def vocabulary(rng):
    """Draws a language model's row; with few distinct logits the reference is computed fast."""
    z, y = draw(rng, k=131_072, n=1)
    z = np.round(z, 2)
    z[0, y] = np.delete(z[0], y).max() + 24
    return z, y


CASES = {
    "N(0, 1), 1000 classes": lambda rng: draw(rng, k=1000),
    "N(0, 10²), 1000 classes": lambda rng: draw(rng, k=1000, scale=10),
    **{f"gap {g}": lambda rng, g=g: draw(rng, gap=g) for g in (5, 10, 15, 20, 40, 60, 80)},
    "gap -6": lambda rng: draw(rng, gap=-6),
    "all + 1e4": lambda rng: draw(rng, offset=1e4),
    "131072 classes, gap 24": vocabulary,
    "half the logits -inf": lambda rng: draw(rng, masked=0.5),
}


def references(z, y):
    return [exact.cross_entropy(r, exact.onehot(i, len(r))) for r, i in zip(z, y, strict=True)]


def errors(library, z, y, wanted):
    """Returns errors [rows, 3] in ulp of the logits' dtype, and relative to each number."""
    losses, gradients = compiled(library)(z, y)
    in_ulp, relative = [], []
    for loss, gradient, want, label in zip(losses, gradients, wanted, y, strict=True):
        got = np.append(np.asarray(gradient, np.float64), float(loss))
        want = np.append(want.gradient, want.loss)
        error = exact.ulps(got, want, dtype=z.dtype)
        in_ulp.append([error[-1], error[label], np.delete(error[:-1], label).max()])
        with np.errstate(all="ignore"):
            share = abs(got / want.astype(np.float64) - 1) * (error > 0)
        relative.append([share[-1], share[label], np.delete(share[:-1], label).max()])
    return np.array(in_ulp), np.array(relative)


def text(in_ulp, relative) -> str:
    """Returns the worst error of some rows, in per cent if it is as large as the number itself."""
    worst = in_ulp.max()
    if np.isinf(worst):
        return "NaN"
    if worst > 10 and relative.max() > 0.01:
        return f"{relative.max():.0%}"
    return f"{worst:.1g}" if worst >= 1e3 else f"{worst:.0f}" if worst >= 10 else f"{worst:.1f}"


def cases(dtype, quick, progress) -> list[list[str]]:
    """Returns a row of text for each case."""
    rng, lines = np.random.default_rng(0), []
    for name, make in progress.track(CASES.items(), description=f"cases in {dtype}"):
        if quick and make is vocabulary:
            continue
        z, y = make(rng)
        z = jnp.asarray(z, dtype)
        wanted, line = references(z, y), [name]
        for library in LIBRARIES:
            found = errors(library, z, y, wanted)
            line.append(" / ".join(text(*(e[:, i] for e in found)) for i in range(3)))
        lines.append(line)
    return lines


GAPS = (5, 10, 15, 20, 40, 60, 80)


def by_gap(progress) -> tuple[list[str], list[list[str]]]:
    """Returns the relative errors of the loss and of the label's gradient, the worst per gap."""
    rng, columns = np.random.default_rng(2), []
    for gap in progress.track(GAPS, description="relative errors"):
        z, y = draw(rng, gap=gap)
        z = jnp.asarray(z, jnp.float32)
        wanted = references(z, y)
        worst = (errors(name, z, y, wanted)[1].max(axis=0) for name in LIBRARIES)
        columns.append([" / ".join(map(share, relative[:2])) for relative in worst])
    rows = zip(*columns, strict=True)
    names = zip(LIBRARIES, rows, strict=True)
    return ["library", *(f"gap {gap}" for gap in GAPS)], [[name, *row] for name, row in names]


def share(relative: float) -> str:
    return f"{relative:.0%}" if relative >= 0.01 else f"{relative:.0e}"


def sweep(step, progress) -> tuple[np.ndarray, float, dict[str, np.ndarray]]:
    """Returns gaps, the first at which a class underflows, and errors [gaps, 3] by library.

    The errors are in float32, and the worst of the rows of a gap.
    """
    rng, gaps, underflow = np.random.default_rng(1), np.arange(0, 91, float(step)), np.inf
    tiny = float(jnp.finfo("float32").smallest_normal)
    found = {library: [] for library in LIBRARIES}
    for gap in progress.track(gaps, description="gaps"):
        z, y = draw(rng, gap=gap, n=4)
        z = jnp.asarray(z, jnp.float32)
        wanted = references(z, y)
        if min(abs(want.gradient).min() for want in wanted) < tiny:
            underflow = min(underflow, gap)
        for library in LIBRARIES:
            found[library].append(errors(library, z, y, wanted)[0].max(axis=0))
    return gaps, underflow, {library: np.array(e) for library, e in found.items()}


def plot(gaps, underflow, found, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), sharey=True, layout="constrained")
    bounds = (measure.LOSS, measure.LABEL["float32"], measure.OTHERS["float32"])
    styles = ["--", "-", ":", "-"]
    for i, (axis, bound) in enumerate(zip(axes, bounds, strict=True)):
        for (library, e), style in zip(found.items(), styles, strict=True):
            ours = library == "xent_jax"
            axis.plot(gaps, np.maximum(e[:, i], 0.1), style, label=library, lw=3 if ours else 2)
        allowed = bound + np.where(gaps > measure.FAR["float32"], gaps / 2, 0)
        axis.plot(gaps, allowed, color="black", ls=(0, (6, 4)), lw=1, label="the bound")
        axis.set(title=QUANTITIES[i], yscale="log", xlabel="gap: the label's logit less the next")
        axis.axvspan(underflow, gaps[-1], color="0.9", label="some classes below 1.2e-38")
        axis.axhline(2.0**23, color="0.6", lw=1)
        axis.text(25, 2.0**23 / 3, "100 % wrong", color="0.4", fontsize=9)
        axis.grid(alpha=0.3)
        axis.legend(loc="center", bbox_to_anchor=(0.56, 0.6), fontsize=9)
    axes[0].set_ylabel("error, units in the last place\n(worst of 4 rows; below 0.1 drawn at 0.1)")
    figure.suptitle("float32 cross-entropy of 100 classes, the others N(0, 1), against 60 digits")
    figure.savefig(path, dpi=130)


RELATIVE = "Relative error of loss / gradient at the label, float32"
NOTES = """A cell has the errors of the loss, of the gradient at the label, and of the worst other
component of the gradient: the largest error over the rows of the case, in ulp of the logits' dtype,
or in per cent if it exceeds 10 ulp and 1 %. The first table has the relative errors of the first
two. `gap` is how far the label's logit leads the others, which are N(0, 1), with 100 classes unless
stated. The dashed line is the bound that the tests check. In the grey band, the exponential of a
class is below the smallest normal number, which XLA:CPU flushes to 0."""


def main() -> None:
    options = parser("Errors in ulp beside optax and jax.nn.", "fewer cases").parse_args()
    with Progress(console=console()) as progress:
        found = {dtype: cases(dtype, options.quick, progress) for dtype in DTYPES}
        relative = by_gap(progress)
        swept = sweep(10 if options.quick else 1, progress)
    head = ["case", *LIBRARIES]
    folder = publish(
        "accuracy",
        options,
        {RELATIVE: relative}
        | {f"{dtype}, in units of the last place": (head, rows) for dtype, rows in found.items()},
        title="Accuracy",
        question="How far are loss and gradient from 60-digit references, in units in the last "
        "place?",
        notes=NOTES,
    )
    plot(*swept, folder / "accuracy.png")


if __name__ == "__main__":
    run(main)
