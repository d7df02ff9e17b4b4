"""Errors of loss and gradient against 60-digit references, beside optax and jax.nn.

A cell has the errors of the loss, of the gradient at the label, and of the worst other component of
the gradient: the largest error over the rows of the case, in ulp of the logits' dtype, or in per
cent if it exceeds 10 ulp and 1 %. The first table has the relative errors of the first two. `gap`
is how far the label's logit leads the others, which are N(0, 1), with 100 classes unless stated. In
the picture, the dashed line is the bound that the tests check. In the grey band, the exponential of
a class is below the smallest normal number, which XLA:CPU flushes to 0.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import xent_jax
from benchmarks._records import Record, records
from benchmarks._running import Benchmark, track
from tests import exact
from tests.measure import FAR, LABEL, LOSS, OTHERS, reverse

DTYPES = "float32", "bfloat16"
BOUNDS = {"loss": LOSS, "label": LABEL["float32"], "others": OTHERS["float32"]}
METRICS = tuple(BOUNDS)
OURS = "xent_jax"
SHOWN = {f"gap {gap}": gap for gap in (5, 10, 15, 20, 40, 60, 80)}
LIBRARIES = {
    "optax one-hot": lambda z, y: optax.softmax_cross_entropy(z, jax.nn.one_hot(y, z.shape[-1])),
    "optax integer": optax.softmax_cross_entropy_with_integer_labels,
    "jax.nn.log_softmax": lambda z, y: (
        -jnp.take_along_axis(jax.nn.log_softmax(z), y[..., None], axis=-1)[..., 0]
    ),
    OURS: xent_jax.softmax_cross_entropy_with_integer_labels,
}
COMPILED = {name: jax.jit(partial(reverse, loss)) for name, loss in LIBRARIES.items()}


def draw(rng, k=100, gap=None, n=8, scale=1.0, offset=0.0, masked=0.0):
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
    """Returns the worst errors of some rows by library, and the gradients' smallest magnitude.

    Errors are [2, 3]: in ulp of the logits' dtype and relative, for each of ``METRICS``.
    """
    z, found = jnp.asarray(z, dtype), {}
    wanted = [exact.cross_entropy(r, exact.onehot(i, len(r))) for r, i in zip(z, y, strict=True)]
    for library, compiled in COMPILED.items():
        rows = []
        for loss, gradient, want, label in zip(*compiled(z, y), wanted, y, strict=True):
            got = np.append(np.asarray(gradient, np.float64), float(loss))
            want = np.append(want.gradient, want.loss)
            in_ulp = exact.ulps(got, want, dtype=z.dtype)
            with np.errstate(all="ignore"):
                relative = abs(got / want.astype(np.float64) - 1) * (in_ulp > 0)
            both = in_ulp, relative
            rows.append([(e[-1], e[label], np.delete(e[:-1], label).max()) for e in both])
        found[library] = np.max(rows, axis=0)
    return found, float(min(abs(want.gradient).min() for want in wanted))


def in_cases(dtype: str, quick: bool) -> Iterator[Record]:
    """Yields the errors in ulp, or relative errors where both are large.

    For the gaps, it also yields the relative errors of the loss and of the label's gradient.
    """
    rng = np.random.default_rng(0)
    for case, make in track(CASES.items(), f"cases in {dtype}"):
        if quick and make is vocabulary:
            continue
        for library, pairs in errors(*make(rng), dtype)[0].items():
            for metric, ulp, relative in zip(METRICS, *pairs.tolist(), strict=True):
                large = ulp > 10 and relative > 0.01  # both are NaN or infinite where a result is
                number = (relative, "relative") if large else (ulp, "ulp")
                yield Record("Errors", library, metric, *number, dtype, case=case)
                if dtype == "float32" and case in SHOWN and metric != "others":
                    number = relative, "relative"
                    yield Record("Relative errors", library, metric, *number, dtype, case=case)


def sweep(gaps: range) -> Iterator[Record]:
    """Yields the errors in float32, the worst of four rows of each gap, and our bounds."""
    rng, underflows = np.random.default_rng(1), []
    study, tiny = "Errors against the gap", jnp.finfo("float32").smallest_normal
    for gap in track(gaps, "gaps"):
        found, least = errors(*draw(rng, gap=gap, n=4), "float32")
        far = gap / 2 if gap > FAR["float32"] else 0.0
        bounds = {metric: bound + far for metric, bound in BOUNDS.items()}
        for library, (in_ulp, _) in found.items():
            numbers = dict(zip(METRICS, in_ulp.tolist(), strict=True))
            fields = {"unit": "ulp", "dtype": "float32", "case": f"gap {gap}"}
            yield from records(study, library, numbers, bounds if library == OURS else {}, **fields)
        if least < tiny:
            underflows.append(gap)
    first = {"first gap of an underflow": underflows[0]} if underflows else {}
    yield from records(study, "exp of a class", first, unit="nats", dtype="float32")


def measure(quick: bool) -> list[Record]:
    found = [record for dtype in DTYPES for record in in_cases(dtype, quick)]
    found.sort(key=lambda record: record.study, reverse=True)  # puts the relative errors first
    return [*found, *sweep(range(0, 91, 10 if quick else 1))]


BENCHMARK = Benchmark("accuracy", "Accuracy", __doc__, measure)
if __name__ == "__main__":
    BENCHMARK.main()
