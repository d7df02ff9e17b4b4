"""The accuracy contract holds on rows whose size, scale, offset, gap and dtype are drawn."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb
from hypothesis import given

import xent_jax
from tests import exact
from tests.draws import draws, seeds
from tests.measure import (
    HESSIAN_PRODUCT,
    LABEL,
    LOSS,
    OTHERS,
    SOFT,
    accumulator,
    beyond_gap,
    lead,
    reverse,
    run,
)

pytestmark = pytest.mark.slow


@st.composite
def rows(draw, dtypes=tuple(OTHERS)):
    """Draws two rows of logits and their labels, with a generator for what else a test needs."""
    dtype = draw(st.sampled_from(dtypes))
    k = draw(st.sampled_from([1, 2, 5, 33, 130]))
    rng = np.random.default_rng(draw(seeds))
    z = rng.normal(size=(2, k)) * 10.0 ** draw(st.integers(-3, 2))
    y = rng.integers(0, k, 2)
    gap = draw(st.none() | st.floats(0, 700 if dtype == "float64" else 85))
    if gap is not None and k > 1:
        ahead = rng.integers(0, k, 2) if draw(st.booleans()) else y
        z[[0, 1], ahead] = -np.inf
        z[[0, 1], ahead] = z.max(axis=1) + gap
    z += draw(st.sampled_from([0, 0, 0.1, -30, 3e2, -1e4]))
    if draw(st.booleans()):
        out = rng.random(z.shape) < 0.3
        out[[0, 1], y] = False
        z[out] = -np.inf
    return z.astype(jnp.dtype(dtype)), y, rng


def subnormal(row):
    """Returns which probabilities are subnormal, so that they may count as 0, and their sum."""
    tiny = float(jnp.finfo(accumulator(row.dtype)).smallest_normal)
    p = exact.softmax(row).p
    return p < tiny, sum(p[p < tiny], arb(0))


def beyond(got, want, gap, lost, scale=None):
    """Returns the error in ulp, less what the gap and the lost probability may account for."""
    scale = want if scale is None else scale
    slack = exact.ulps(np.zeros_like(got), lost, scale)
    return beyond_gap(got, want, gap, scale) - slack


@functools.cache
def integer_loss(module):
    return functools.partial(reverse, module.softmax_cross_entropy_with_integer_labels)


@draws(60)
@given(rows(), st.sampled_from([xent_jax, xent_jax.forward_mode]))
def test_integer_labels(problem, module):
    z, y, _ = problem
    losses, gradients = run(integer_loss(module), z.dtype, z, y)
    assert losses.dtype == accumulator(z.dtype)
    for row, label, loss, gradient in zip(z, y, losses, gradients, strict=True):
        want, (out, lost) = exact.cross_entropy(row, exact.onehot(label, len(row))), subnormal(row)
        leads = lead(want.gap) if want.gap[label] == 0 else 0.0
        assert beyond(loss, want.loss, leads, lost) <= LOSS
        at_label = gradient[label], want.gradient[label], leads
        assert beyond(*at_label, 0 if out[label] else lost) <= LABEL[str(z.dtype)]
        others = beyond_gap(gradient, want.gradient, want.gap)
        others[label] = 0
        assert others.max() <= OTHERS[str(z.dtype)]


def soft(z, t, e, c):
    """Returns losses and gradients; the options are operands, so that one program serves all."""
    loss = functools.partial(xent_jax.softmax_cross_entropy, label_smoothing=e, z_loss=c)
    return reverse(loss, z, t)


@draws(60)
@given(rows(), st.sampled_from([(0, 0), (0.125, 0), (0, 2**-10), (0.125, 2**-10)]))
def test_soft_labels(problem, options):
    z, y, rng = problem
    e, c = np.asarray(options, accumulator(z.dtype))
    smoothing = exact.exact(e).item()
    t = rng.dirichlet(np.full(z.shape[1], 0.5), 2) * rng.uniform(0.2, 3)
    t = np.where(np.isfinite(z.astype(float)), t, 0).astype(accumulator(z.dtype))
    losses, gradients = run(soft, z.dtype, z, t, e, c)
    for row, target, loss, gradient in zip(z, t, losses, gradients, strict=True):
        target = (1 - smoothing) * exact.exact(target) + smoothing / len(row)
        want, (out, lost) = exact.cross_entropy(row, target, c), subnormal(row)
        missed = beyond(loss, want.loss, 0, sum(target) * lost, want.loss_scale)
        assert missed - lead(want.gap) / 2 <= LOSS
        error = beyond_gap(gradient, want.gradient, want.gap, want.gradient_scale)
        assert error[~out | (target > 0)].max() <= SOFT[str(z.dtype)]


def integer_product(z, y, v):
    loss = xent_jax.softmax_cross_entropy_with_integer_labels
    return jax.jvp(jax.grad(lambda z: loss(z, y).sum()), (z,), (v,))[1]


@draws(60)
@given(rows(("float32", "float64")), st.sampled_from([0, 1, 1e4]), st.integers(-2, 2))
def test_hessian_vector_products(problem, offset, size):
    z, y, rng = problem
    v = (offset + 10.0**size * rng.normal(size=z.shape)).astype(z.dtype)
    products = run(integer_product, z.dtype, z, y, v)
    for row, vector, product in zip(z, v, products, strict=True):
        want, scale = exact.hessian_product(row, vector)
        out, lost = subnormal(row)
        gap = exact.softmax(row).gap
        error = beyond(product, want, 0, lost * np.ptp(vector).astype(float), scale) - gap / 2
        assert error[~out].max() <= HESSIAN_PRODUCT


def binary(z, t):
    return reverse(xent_jax.sigmoid_binary_cross_entropy, z, t)


@draws(60)
@given(st.sampled_from(list(OTHERS)), seeds, st.integers(-4, 2))
def test_sigmoid_binary_cross_entropy(dtype, seed, size):
    rng = np.random.default_rng(seed)
    z = np.clip(rng.normal(size=8) * 10.0**size, -80, 80).astype(jnp.dtype(dtype))
    t = np.where(rng.random(8) < 0.5, rng.random(8), rng.random(8) < 0.5)
    t = t.astype(accumulator(dtype))
    losses, gradients = run(binary, dtype, z, t)
    for *case, loss, gradient in zip(z, t, losses, gradients, strict=True):
        want = exact.binary_cross_entropy(*case)
        assert exact.ulps(loss, want.loss) <= LOSS
        assert exact.ulps(gradient, want.gradient, want.gradient_scale) <= SOFT[dtype]
