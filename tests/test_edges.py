"""The promised results of edge cases, eager and jitted, in both modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.edges import (
    EDGES,
    GOOD,
    INTEGER,
    JS,
    KL,
    LEFT,
    NAN,
    SOFT,
    WEIGHTS,
    check,
    every_way,
)


@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
@every_way
def test_edge(edge, module, wrap):
    check(edge, module, wrap)


@every_way
def test_no_examples(module, wrap):
    def mean(z):
        return getattr(module, INTEGER)(z, jnp.zeros(0, int), reduction="mean")

    value, gradient = wrap(jax.value_and_grad(mean))(jnp.zeros((0, 3)))
    assert value == 0 and gradient.shape == (0, 3)


@every_way
@pytest.mark.parametrize("loss", [INTEGER, SOFT])
def test_masked_class_reaches_no_other_argument(module, wrap, loss):
    """The gradients to the options are those of the problem without the masked class."""
    labels = jnp.array([0]) if loss == INTEGER else jnp.eye(3)[:1]

    def total(options, z, t, classes=slice(None), **more):
        e, w = options
        losses = getattr(module, loss)(z, t, label_smoothing=e, class_weights=w[classes], **more)
        return losses.sum()

    options, z, left = (jnp.asarray(0.3), WEIGHTS), jnp.asarray([GOOD]), jnp.array([0, 2])
    got = wrap(jax.grad(lambda o: total(o, z, labels, **LEFT)))(options)
    t = labels if loss == INTEGER else labels[:, left]
    want = jax.jit(jax.grad(lambda o: total(o, z[:, left], t, left)))(options)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), got, want)


@every_way
@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        (JS, "beta", [0.0, 1.0, -0.5, 1.5, NAN]),
        (JS, "temperature", [0.0, -1.0, NAN]),
        (KL, "temperature", [0.0, -1.0, NAN]),
    ],
)
def test_a_traced_option_out_of_range(module, wrap, name, option, values):
    def loss(x):
        return getattr(module, name)(jnp.zeros(3), jnp.asarray(GOOD), **{option: x})

    both = wrap(jax.value_and_grad(loss))
    for value in values:
        assert np.isnan(both(jnp.asarray(value))).all(), value


@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
def test_focal_hessian_where_the_loss_is_zero(outer):
    """The Hessian is 0, though the slope of (1 - p)^gamma is infinite at p = 1 for gamma < 1."""

    def loss(z, gamma):
        return xent_jax.softmax_focal_loss(z, jnp.array(0), gamma=gamma)

    z, hessian = jnp.array([200.0, 0.0, -1.0]), jax.jit(outer(jax.grad(loss)))
    for gamma in (0.3, 1.0, 2.0):
        assert loss(z, gamma) == 0
        np.testing.assert_array_equal(hessian(z, gamma), np.zeros((3, 3)))


@every_way
def test_label_out_of_range_poisons_the_second_derivative(module, wrap):
    def total(z):
        return getattr(module, INTEGER)(z, jnp.array([3, 1])).sum()

    def product(z):
        return jax.jvp(jax.grad(total), (z,), (jnp.ones_like(z).at[0, 0].set(2.0),))[1]

    out = np.asarray(wrap(product)(jnp.asarray([GOOD] * 2, jnp.float32)))
    assert np.all(np.isnan(out[0])) and np.all(np.isfinite(out[1]))


@every_way
def test_positive_weight_s_gradient_at_a_label_of_zero(module, wrap):
    """The derivative d2L / dw dt is softplus(-z), also where t is 0."""

    def loss(w, t):
        return module.sigmoid_binary_cross_entropy(jnp.asarray(0.3), t, pos_weight=w)

    mixed = wrap(jax.jacrev(jax.grad(loss), 1))(jnp.asarray(2.0), jnp.asarray(0.0))
    np.testing.assert_allclose(mixed, np.log1p(np.exp(-0.3)), rtol=1e-6)


def test_jensen_shannon_divergence_goes_to_kl_divergences():
    """JS / beta tends to a KL divergence as beta goes to 0, JS / (1 - beta) to the other near 1."""
    z, w = jnp.asarray(GOOD), jnp.array([0.25, 1.0, -0.5])
    js, kl = xent_jax.softmax_jensen_shannon_divergence, xent_jax.softmax_kl_divergence
    b = 2.0**-14  # the relative difference is of this size
    np.testing.assert_allclose(js(z, w, beta=b) / b, kl(z, w), rtol=4 * b)
    np.testing.assert_allclose(js(z, w, beta=1 - b) / b, kl(w, z), rtol=4 * b)
