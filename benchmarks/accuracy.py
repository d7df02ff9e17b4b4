"""Errors of loss and gradient against 60-digit references, beside optax and jax.nn.

A cell has the errors of the loss, of the gradient at the label, and of the worst other component of
the gradient: the largest error over the rows of the case, in ulp of the logits' dtype, or in per
cent if it exceeds 10 ulp and 1 %. The first table has the relative errors of the first two. `gap`
is how far the label's logit leads the others, which are N(0, 1), with 100 classes unless stated. In
the picture, the dashed line is the bound that the tests check. In the grey band, the exponential of
a class is below the smallest normal number, which XLA:CPU flushes to 0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from rich.progress import Progress

import xent_jax
from benchmarks._records import Record
from benchmarks._running import Benchmark
from tests import exact, measure

DTYPES = "float32", "bfloat16"
METRICS = "loss", "label", "others"
TITLES = "loss", "gradient at the label", "worst other gradient component"
ROWS = 8
SHOWN = {f"gap {gap}": gap for gap in (5, 10, 15, 20, 40, 60, 80)}


LIBRARIES = {
    "optax one-hot": lambda z, y: optax.softmax_cross_entropy(z, jax.nn.one_hot(y, z.shape[-1])),
    "optax integer": optax.softmax_cross_entropy_with_integer_labels,
    "jax.nn.log_softmax": lambda z, y: (
        -jnp.take_along_axis(jax.nn.log_softmax(z), y[..., None], axis=-1)[..., 0]
    ),
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
    **{case: lambda rng, gap=gap: draw(rng, gap=gap) for case, gap in SHOWN.items()},
    "gap -6": lambda rng: draw(rng, gap=-6),
    "all + 1e4": lambda rng: draw(rng, offset=1e4),
    "131072 classes, gap 24": vocabulary,
    "half the logits -inf": lambda rng: draw(rng, masked=0.5),
}


def errors(z, y, dtype: str) -> tuple[dict[str, np.ndarray], float]:
    """Returns the worst errors of some rows by library, and the least component of the gradient.

    Errors are [2, 3]: in ulp of the logits' dtype, and relative.
    """
    z, found = jnp.asarray(z, dtype), {}
    wanted = [exact.cross_entropy(r, exact.onehot(i, len(r))) for r, i in zip(z, y, strict=True)]
    for library in LIBRARIES:
        losses, gradients = compiled(library)(z, y)
        rows = []
        for loss, gradient, want, label in zip(losses, gradients, wanted, y, strict=True):
            got = np.append(np.asarray(gradient, np.float64), float(loss))
            want = np.append(want.gradient, want.loss)
            in_ulp = exact.ulps(got, want, dtype=z.dtype)
            with np.errstate(all="ignore"):
                relative = abs(got / want.astype(np.float64) - 1) * (in_ulp > 0)
            both = in_ulp, relative
            rows.append([(e[-1], e[label], np.delete(e[:-1], label).max()) for e in both])
        found[library] = np.max(rows, axis=0)
    return found, float(min(abs(want.gradient).min() for want in wanted))


def in_cases(dtype: str, quick: bool, progress: Progress) -> list[Record]:
    """Returns the errors in ulp, or relative ones where they are large in both ways.

    Of the gaps it also returns the relative errors of the loss and of the label's gradient.
    """
    rng, out = np.random.default_rng(0), []
    for case, make in progress.track(CASES.items(), description=f"cases in {dtype}"):
        if quick and make is vocabulary:
            continue
        for library, pairs in errors(*make(rng), dtype)[0].items():
            for metric, ulp, relative in zip(METRICS, *pairs.tolist(), strict=True):
                large = ulp > 10 and relative > 0.01  # both are NaN or infinite where a result is
                number = {"value": relative, "unit": "relative"} if large else {"value": ulp}
                fields = {"program": library, "metric": metric, "dtype": dtype, "case": case}
                out.append(Record("Errors", **{"unit": "ulp"} | number, **fields))
                if dtype == "float32" and case in SHOWN and metric != "others":
                    out.append(Record("Relative errors", value=relative, unit="relative", **fields))
    return out


def sweep(step: int, progress: Progress) -> tuple[np.ndarray, float, dict[str, np.ndarray]]:
    """Returns gaps, the first at which a class underflows, and errors [gaps, 3] by library.

    The errors are in float32, and the worst of the rows of a gap.
    """
    rng, gaps = np.random.default_rng(1), np.arange(0, 91, float(step))
    drawn = progress.track([draw(rng, gap=gap, n=4) for gap in gaps], description="gaps")
    found, least = zip(*(errors(*rows, "float32") for rows in drawn), strict=True)
    tiny = np.array(least) < float(jnp.finfo("float32").smallest_normal)
    in_ulp = {library: np.array([new[library][0] for new in found]) for library in LIBRARIES}
    return gaps, gaps[tiny].min(initial=np.inf), in_ulp


def plot(gaps, underflow, found, figure: Figure) -> None:
    figure.set_size_inches(15, 5)
    panels = figure.subplots(1, 3, sharey=True)
    bounds = measure.LOSS, measure.LABEL["float32"], measure.OTHERS["float32"]
    for i, (axes, title, bound) in enumerate(zip(panels, TITLES, bounds, strict=True)):
        for (library, e), style in zip(found.items(), ("--", "-", ":", "-"), strict=True):
            width = 3 if library == "xent_jax" else 2
            axes.plot(gaps, np.maximum(e[:, i], 0.1), style, label=library, lw=width)
        allowed = bound + np.where(gaps > measure.FAR["float32"], gaps / 2, 0)
        axes.plot(gaps, allowed, color="black", ls=(0, (6, 4)), lw=1, label="the bound")
        axes.set(title=title, yscale="log", xlabel="gap: the label's logit less the next")
        axes.axvspan(underflow, gaps[-1], color="0.9", label="some classes below 1.2e-38")
        axes.axhline(2.0**23, color="0.6", lw=1)
        axes.text(25, 2.0**23 / 3, "100 % wrong", color="0.4", fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(loc="center", bbox_to_anchor=(0.56, 0.6), fontsize=9)
    panels[0].set_ylabel(
        "error, units in the last place\n(worst of 4 rows; below 0.1 drawn at 0.1)"
    )
    figure.suptitle("float32 cross-entropy of 100 classes, the others N(0, 1), against 60 digits")


def run(quick: bool, progress: Progress):
    records = [record for dtype in DTYPES for record in in_cases(dtype, quick, progress)]
    records.sort(key=lambda record: record.study, reverse=True)  # the relative errors first
    return records, functools.partial(plot, *sweep(10 if quick else 1, progress))


BENCHMARK = Benchmark("accuracy", "Accuracy", __doc__, run)
if __name__ == "__main__":
    BENCHMARK.main()
