"""The linear head takes weights, temperatures and auxiliaries, and labels out of range."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.chunks import chunks_of
from tests.heads import CLASSES, agree, derivatives, drawn, held, modes, plain, reductions, same
from xent_jax import linear_softmax_cross_entropy, with_linear_head

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]


@reductions
@pytest.mark.parametrize("size", [3, 4])
def test_a_label_out_of_range_poisons_its_token(reduction, size):
    x, w, b, y = drawn((10,))
    y = y.at[4].set(CLASSES)

    head = functools.partial(linear_softmax_cross_entropy, reduction=reduction)
    with chunks_of(size):
        value, (dx, *_) = derivatives(head, x, w, y, b)
    bad = np.arange(10) == 4
    np.testing.assert_array_equal(np.isnan(value), bad if reduction == "none" else True)
    assert np.isnan(dx[bad]).all() and np.isfinite(dx[~bad]).all()


# ---------------------------------------------------------------- auxiliaries


def with_aux(z, y):
    return plain(z, y), {"correct": jnp.argmax(z, -1) == y, "parts": (z[:, :2], jnp.square(z))}


def floats(tree):
    return sum(jnp.sum(a) for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.floating))


@modes
@reductions
def test_aux_is_that_of_held_logits_and_has_no_gradient(module, reduction):
    x, w, b, y = drawn((2, 5))
    left = jnp.arange(10).reshape(2, 5) % 3 > 0

    def of(x, w, b):
        head = module.with_linear_head(with_aux, has_aux=True, reduction=reduction)
        value, aux = head(x, w, y, bias=b, where=left)
        return jnp.sum(jnp.sin(value)) + floats(aux), aux

    def of_held(x, w, b):
        return jnp.sum(jnp.sin(held(x, w, y, b, left, reduction=reduction)))

    with chunks_of(4):
        gradients, aux = jax.jit(jax.grad(of, (0, 1, 2), has_aux=True))(x, w, b)
    same(gradients, jax.jit(jax.grad(of_held, (0, 1, 2)))(x, w, b))
    z = x @ w + b
    out = jnp.where(left[..., None], z, 0)
    np.testing.assert_array_equal(aux["correct"], left & (jnp.argmax(z, -1) == y))
    same(aux["parts"], (out[..., :2], jnp.square(out)))


def test_aux_stays_without_gradient_in_second_derivatives():
    x, w, b, y = drawn((9,))

    def second(loss):
        def norm(x):
            value, gradient = jax.value_and_grad(loss, has_aux=True)(x, w, y, bias=b)
            return jnp.sum(jnp.square(gradient)) + floats(value)

        return jax.jit(jax.grad(norm))(x)

    head = with_linear_head(with_aux, has_aux=True)
    agree(second, head, lambda *args, **bias: (held(*args, **bias), ()), 4)


# ---------------------------------------------------------------- weights and temperatures


@reductions
def test_a_wrong_weight_reaches_its_own_row_alone(reduction):
    x, w, b, y = drawn((9,))
    weights = jnp.ones(9).at[jnp.array([2, 5])].set(jnp.array([-1.0, jnp.nan]))
    wrong = ~(weights >= 0)

    def gradients(loss):
        loss = functools.partial(loss, reduction=reduction)
        return derivatives(lambda x, v: loss(x, w, y, b, weights=v), x, weights)[1]

    with chunks_of(4):
        dx, d_weights = gradients(linear_softmax_cross_entropy)
    np.testing.assert_array_equal(jnp.isnan(dx), jnp.broadcast_to(wrong[:, None], dx.shape))
    if reduction != "mean":  # a mean divides each loss by the sum of all weights
        assert not jnp.isnan(d_weights[~wrong]).any()
    same(dx[~wrong], gradients(held)[0][~wrong])


def test_weights_of_zero():
    """The gradient to a weight of 0 is the token's loss, and a mean of such tokens alone is 0."""
    x, w, b, y = drawn((6,))

    def of(x, w, weights, reduction):
        return linear_softmax_cross_entropy(x, w, y, b, weights=weights, reduction=reduction)

    same(jax.grad(of, 2)(x, w, jnp.zeros(6), "sum"), held(x, w, y, b, reduction="none"))
    value, gradients = jax.value_and_grad(of, (0, 1))(x, w, jnp.zeros(6), "mean")
    assert value == 0 and not any(g.any() for g in gradients)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_traced_temperature_that_is_not_above_zero_is_nan(value):
    x, w, b, y = drawn((6,))

    def loss(x, temperature):
        return linear_softmax_cross_entropy(x, w, y, b, temperature=temperature)

    found = jax.jit(jax.value_and_grad(loss, (0, 1)))(x, value)
    assert all(jnp.isnan(a).all() for a in jax.tree.leaves(found))
    statistics = jax.jit(lambda t: xent_jax.linear_token_statistics(x, w, y, temperature=t))(value)
    assert jnp.isnan(statistics.loss).all() and (statistics.argmax == -1).all()


def test_logits_of_minus_infinity_keep_the_gradient_of_the_temperature():
    x, w, b, y = drawn((6,))
    b, y = b.at[3].set(-jnp.inf), jnp.where(y == 3, 0, y)

    def of(loss, w, b, y):
        return jax.grad(lambda t: loss(x, w, y, b, temperature=t))(0.7)

    some = np.arange(CLASSES) != 3
    wanted = of(held, w[:, some], b[some], y - (y > 3))
    same(of(linear_softmax_cross_entropy, w, b, y), wanted)
