"""The softmax losses keep the accuracy contract, measured against 60 digits on hard rows."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb

import xent_jax
from tests import exact
from tests.hard_rows import CLASSES, by_size, hard_rows, rows_of_ties, stacked
from tests.measure import (
    LABEL,
    LOSS,
    OTHERS,
    PATHS,
    SOFT,
    TIES,
    accumulator,
    beyond_gap,
    dtypes,
    excesses,
    integer_errors,
    lead,
    paths,
    reverse,
    run,
    wide_dtypes,
)

# ------------------------------------------------------------------ integer labels


@functools.cache
def integer_reference(rows, dtype, name):
    z, y = rows(dtype)[name]
    return exact.cross_entropy(z, exact.onehot(y, len(z)))


@paths
@pytest.mark.parametrize("rows, more", [(hard_rows, 0), (rows_of_ties, TIES)])
def test_integer_labels(dtype, path, rows, more):
    """The loss and its gradient, at the label and at the other classes, are within their bounds."""
    module, derivative = PATHS[path]
    loss = functools.partial(derivative, module.softmax_cross_entropy_with_integer_labels)
    errors = {}
    for names, z, y in by_size(rows(dtype)):
        if path != "default" and z.shape[1] != CLASSES:
            continue  # one compiled shape is enough for these paths
        losses, gradients = run(loss, dtype, z, y)
        assert losses.dtype == accumulator(dtype)
        references = [integer_reference(rows, dtype, name) for name in names]
        found = integer_errors(losses, gradients, references, y)
        errors |= dict(zip(names, found, strict=True))
    for i, bound in enumerate([LOSS, LABEL[str(gradients.dtype)], OTHERS[str(gradients.dtype)]]):
        bound += more if bound >= 1 else 0  # not for gradients rounded to half precision
        assert not excesses({name: error[i] for name, error in errors.items()}, bound)


@dtypes
def test_a_language_model_s_row(dtype):
    """A row of 131072 classes, whose label leads by 24 nats, keeps the contract."""
    rng, y = np.random.default_rng(1), 50_000
    z = np.round(rng.normal(size=131_072), 2)
    z[y] = np.delete(z, y).max() + (24 if dtype != "float16" else 6)  # 24 underflows in float16
    z = z.astype(jnp.dtype(dtype))
    loss = functools.partial(reverse, xent_jax.softmax_cross_entropy_with_integer_labels)
    losses, gradients = run(loss, dtype, z[None], np.array([y]))
    row = exact.softmax(z)
    leads = lead(row.gap)
    assert beyond_gap(losses[0], -arb.log1p(-row.rest[y]), leads).item() <= LOSS
    assert beyond_gap(gradients[0, y], -row.rest[y], leads).item() <= LABEL[dtype]
    _, each = np.unique(np.delete(z, y), return_index=True)
    p, gap, got = (np.delete(x, y)[each] for x in (row.p, row.gap, gradients[0]))
    assert beyond_gap(got, p, gap).max() <= OTHERS[dtype]


# ------------------------------------------------------------------ all other targets

SMOOTHING, Z_LOSS = 0.1, 1e-3


def target_cases(kind, dtype):
    """Returns the rows' names, logits and integer labels, and soft labels of this kind."""
    k, rng = CLASSES, np.random.default_rng(2)
    names, z, y = stacked(dtype)
    t = rng.dirichlet(np.ones(k), len(y))
    if kind == "half the labels zero":
        t *= rng.random(t.shape) < 0.5
    if kind == "labels of sum 0.1 to 10":
        t *= 10.0 ** rng.uniform(-1, 1, (len(y), 1))
    if kind == "one-hot":
        t = np.eye(k)[y]
    return names, z, y, t.astype(accumulator(dtype))


# kind: (whether its labels are integers, whether smoothed, whether with z-loss)
TARGETS = {
    "one-hot": (False, False, False),
    "soft": (False, False, False),
    "half the labels zero": (False, False, False),
    "labels of sum 0.1 to 10": (False, False, False),
    "smoothed soft": (False, True, False),
    "smoothed": (True, True, False),
    "z-loss": (True, False, True),
    "smoothed, z-loss": (True, True, True),
    "soft, z-loss": (False, False, True),
}


@functools.cache
def target_loss(path, integer):
    """Returns a function of logits, labels, smoothing and z-loss that returns losses and gradients.

    The options are operands, so that one compiled program serves all.
    """
    module, derivative = PATHS[path]
    names = "softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels"
    loss = getattr(module, names[integer])

    def of(z, labels, e, c):
        return derivative(functools.partial(loss, label_smoothing=e, z_loss=c), z, labels)

    return of


@pytest.mark.parametrize(
    "kind, dtype, path",
    [(kind, dtype, "default") for kind in TARGETS for dtype in OTHERS]
    + [
        (kind, dtype, "forward_mode")
        for kind in ("soft", "smoothed, z-loss", "soft, z-loss")
        for dtype in ("float32", "float64")
    ],
)
def test_targets(kind, dtype, path):
    """The gradients are within their bound, and for float32 and float64 the losses are too."""
    names, z, y, t = target_cases(kind, dtype)
    integer, *given = TARGETS[kind]
    options = np.array([SMOOTHING, Z_LOSS], accumulator(dtype)) * given
    losses, gradients = run(target_loss(path, integer), dtype, z, y if integer else t, *options)
    e, c = (exact.exact(x).item() for x in options)
    of_losses, of_gradients = {}, {}
    for i, name in enumerate(names):
        target = exact.exact(exact.onehot(y[i], CLASSES) if integer else t[i])
        want = exact.cross_entropy(z[i], (1 - e) * target + e / CLASSES, c)
        error = exact.ulps(losses[i], want.loss, want.loss_scale) - lead(want.gap) / 2
        of_losses[name] = error.item()
        error = beyond_gap(gradients[i], want.gradient, want.gap, want.gradient_scale)
        of_gradients[name] = error.max()
    assert dtype not in ("float32", "float64") or not excesses(of_losses, LOSS)
    assert not excesses(of_gradients, SOFT[str(gradients.dtype)])


# ------------------------------------------------------------------ logits of the same jit


def logits_of_the_same_jit(make, dtype, candidates, *args):
    """Returns the worst ratio of an error to its bound, with the best candidate for each row.

    XLA may fuse a multiply into an add or subtract that follows, with one rounding for the two.
    The loss must read the same logits everywhere: either all fused, or all rounded twice.
    """
    k = candidates[0].shape[1]
    y = np.random.default_rng(3).integers(0, k, len(candidates[0]))
    loss = xent_jax.softmax_cross_entropy_with_integer_labels
    losses, gradients = run(
        lambda y, *args: reverse(lambda z: loss(z, y), make(*args)), y.dtype, y, *args
    )
    bounds = np.array([LOSS, LABEL[dtype], OTHERS[dtype]])
    fits = []
    for z in candidates:
        references = [exact.cross_entropy(r, exact.onehot(i, k)) for r, i in zip(z, y, strict=True)]
        errors = list(integer_errors(losses, gradients, references, y))
        fits.append((np.array(errors) / bounds).max(axis=1))
    return np.min(fits, axis=0).max()


def spread_rows(scale, dtype):
    """Returns rows of logits of this size; in half of the rows they are close to one another."""
    rng = np.random.default_rng(4)
    near = rng.normal(size=(8, 5)) + scale * rng.choice([-1, 1], (8, 1))
    return np.concatenate([near, scale * rng.normal(size=(8, 5))]).astype(jnp.dtype(dtype))


@wide_dtypes
@pytest.mark.parametrize("scale", [1, 1e4, 1e9])
@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_logits_divided_in_the_same_jit(dtype, scale, temperature):
    x, divisor = spread_rows(scale, dtype), np.asarray(temperature, dtype)
    z = run(lambda x: x / divisor, dtype, x)
    assert z.dtype == dtype
    assert logits_of_the_same_jit(lambda x: x / divisor, dtype, [z], x) <= 1


@wide_dtypes
@pytest.mark.parametrize("scale", [1, 1e4, 1e9])
def test_logits_scaled_and_shifted_in_the_same_jit(dtype, scale):
    rng, x = np.random.default_rng(5), spread_rows(scale, dtype)
    w, b = (1 + rng.normal(size=(2, x.shape[1])) / 1000).astype(dtype)
    product = exact.exact(x) * exact.exact(w)
    fused = exact.rounded(product + exact.exact(b), dtype)
    apart = exact.rounded(exact.rounded(product, dtype) + exact.exact(b), dtype)
    worst = logits_of_the_same_jit(lambda x, w, b: x * w + b, dtype, [fused, apart], x, w, b)
    assert worst <= 1
