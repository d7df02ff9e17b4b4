"""Shapes, axes, masks and dtypes drawn by hypothesis, against NumPy in float64."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import xent_jax
from tests.cases import x64

pytestmark = pytest.mark.fast_compile

bounded = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
DTYPES = [np.dtype(d) for d in (jnp.float32, jnp.float64, jnp.bfloat16, jnp.float16)]


@st.composite
def problems(draw):
    """Logits with classes on drawn axes, a mask of no, of examples or of classes."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    order = draw(st.permutations(range(len(shape))))
    axes = tuple(order[: draw(st.integers(1, len(shape)))])
    signed = tuple(a - draw(st.sampled_from([0, len(shape)])) for a in axes)
    batch = tuple(n for a, n in enumerate(shape) if a not in axes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(DTYPES))
    logits = (4 * rng.standard_normal(shape)).astype(dtype)
    mask = draw(st.sampled_from(["none", "examples", "classes", "shared classes"]))
    where = None
    if mask == "examples":
        where = rng.random(batch) < 0.7
    elif mask == "classes":
        where = rng.random(shape) < 0.7
    elif mask == "shared classes":
        where = rng.random([n if a in axes else 1 for a, n in enumerate(shape)]) < 0.7
    return {
        "logits": logits,
        "axis": signed[0] if len(signed) == 1 and draw(st.booleans()) else signed,
        "axes": axes,
        "where": where,
        "labels": rng.integers(0, int(np.prod([shape[a] for a in axes])), batch),
        "soft": rng.random(shape).astype(dtype),
        "weights": rng.standard_normal(batch),
    }


def classes_last(x, axes):
    rest = [a for a in range(x.ndim) if a not in axes]
    x = np.transpose(x, rest + list(axes))
    return x.reshape(*x.shape[: len(rest)], -1)


def rows(problem):
    """float64 logits, classes last; the classes and the examples left in."""
    z, where, axes = problem["logits"].astype(np.float64), problem["where"], problem["axes"]
    shape = z.shape
    z = classes_last(z, axes)
    if where is None:
        return z, np.ones(z.shape, bool), np.ones(z.shape[:-1], bool)
    if where.ndim == len(shape):
        classes = classes_last(np.broadcast_to(where, shape), axes)
        return z, classes, classes.any(-1)
    return z, np.ones(z.shape, bool), np.broadcast_to(where, z.shape[:-1])


def log_softmax(z, classes):
    with np.errstate(all="ignore"):
        top = np.max(np.where(classes, z, -np.inf), -1, keepdims=True)
        e = np.where(classes, np.exp(z - top), 0)
        return np.where(classes, z - top - np.log(e.sum(-1, keepdims=True)), -np.inf)


def expected_integer(problem):
    z, classes, examples = rows(problem)
    log_p = log_softmax(z, classes)
    hit = np.arange(z.shape[-1]) == problem["labels"][..., None]
    losses = np.where(examples, -np.sum(np.where(hit, log_p, 0), -1), 0)
    gradient = np.exp(log_p) - (hit & classes)
    return losses, np.where(examples[..., None], gradient, 0)


def expected_soft(problem):
    z, classes, examples = rows(problem)
    log_p = log_softmax(z, classes)
    t = np.where(classes, classes_last(problem["soft"].astype(np.float64), problem["axes"]), 0)
    with np.errstate(all="ignore"):
        losses = np.where(examples, -np.sum(np.where(t == 0, 0, t * log_p), -1), 0)
    gradient = t.sum(-1, keepdims=True) * np.exp(log_p) - t
    return losses, np.where(examples[..., None], gradient, 0)


def check(loss, expected, labels, problem):
    with x64():
        where = None if problem["where"] is None else jnp.asarray(problem["where"])
        g = jnp.asarray(problem["weights"])

        @jax.jit
        def both(z):
            def total(z):
                losses = loss(z, jnp.asarray(problem[labels]), problem["axis"], where)
                finite = jnp.where(jnp.isfinite(losses), losses, 0)
                return jnp.sum(finite * g), losses

            return jax.grad(total, has_aux=True)(z)

        z = jnp.asarray(problem["logits"])
        gradient, losses = both(z)
        assert gradient.dtype == z.dtype and gradient.shape == z.shape
        wide = losses.dtype
    assert wide == (jnp.float64 if z.dtype == jnp.float64 else jnp.float32)
    expected_losses, expected_gradient = expected(problem)
    tolerance = 1e-12 if z.dtype == jnp.float64 else 2e-6
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance, atol=tolerance)
    kept = np.isfinite(expected_losses) * problem["weights"]
    expected_gradient = expected_gradient * kept[..., None]
    tolerance = max(tolerance, float(jnp.finfo(z.dtype).eps))
    actual = classes_last(np.asarray(gradient, np.float64), problem["axes"])
    np.testing.assert_allclose(actual, expected_gradient, rtol=tolerance, atol=2 * tolerance)


@bounded
@given(problems())
def test_integer_labels(problem):
    loss = xent_jax.softmax_cross_entropy_with_integer_labels
    check(loss, expected_integer, "labels", problem)


@bounded
@given(problems())
def test_soft_labels(problem):
    check(xent_jax.softmax_cross_entropy, expected_soft, "soft", problem)


@bounded
@given(problems())
def test_softmax(problem):
    z, classes, examples = rows(problem)
    expected = np.where(examples[..., None], np.exp(log_softmax(z, classes)), 0)
    with x64():
        where = None if problem["where"] is None else jnp.asarray(problem["where"])
        p = xent_jax.softmax(jnp.asarray(problem["logits"]), problem["axis"], where)
        assert p.dtype == problem["logits"].dtype and p.shape == problem["logits"].shape
    actual = classes_last(np.asarray(p, np.float64), problem["axes"])
    tolerance = max(float(jnp.finfo(p.dtype).eps), 1e-13)
    np.testing.assert_allclose(actual, expected, rtol=4 * tolerance, atol=tolerance)
