"""Gradients of a head in float16 keep their range until their cotangent is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import x64

N, D, K = 2**18, 1, 4
LABELS = jnp.zeros(N, jnp.int32)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_sum_over_many_tokens_that_is_divided_later(reduction):
    """The sums alone are beyond the range of float16."""
    x, w, b = (jnp.full(s, v, jnp.float16) for s, v in (((N, D), 1), ((D, K), 0), ((K,), 0)))

    def loss(w, b):
        of = xent_jax.linear_softmax_cross_entropy
        return jnp.sum(of(x, w, LABELS, b, reduction=reduction)) / N

    dw, db = jax.grad(loss, (0, 1))(w, b)
    assert dw.tolist() == [[-0.75, 0.25, 0.25, 0.25]] and db.tolist() == dw[0].tolist()
    assert dw.dtype == db.dtype == jnp.float16


def soft(library, x, w, y, b, reduction):
    return library.with_linear_head(library.softmax_cross_entropy, reduction=reduction)(
        x, w, jnp.asarray(jax.nn.one_hot(y, w.shape[1]), x.dtype), bias=b
    )


def integer(library, x, w, y, b, reduction):
    return library.linear_softmax_cross_entropy(x, w, y, b, reduction=reduction)


@pytest.mark.parametrize("loss", [integer, soft])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_loss_scaling(loss, reduction):
    """A mean over many tokens times 2^15: as near to float64 as logits that are held in float32."""
    rng, n, k = np.random.default_rng(0), 4096, 64
    x, w, b = (
        jnp.asarray(rng.normal(size=s), jnp.float16) for s in ((n, 8), (8, k), (k,))
    )  # fmt: skip
    y = jnp.asarray(rng.integers(0, k, n))

    def scaled(x, w, b):
        return 2.0**15 * jnp.mean(loss(xent_jax, x, w, y, b, reduction))

    def held(x, w, b):
        return 2.0**15 * -jnp.mean(jnp.take_along_axis(
            jax.nn.log_softmax(x @ w + b), y[:, None], -1
        ))  # fmt: skip

    got = jax.grad(scaled, (0, 1, 2))(x, w, b)
    with x64():
        exact = jax.grad(held, (0, 1, 2))(*(np.asarray(a, np.float64) for a in (x, w, b)))
    for g, e in zip(got, exact, strict=True):
        assert g.dtype == jnp.float16
        error = np.asarray(g, np.float64) - e
        assert np.linalg.norm(error) <= 5e-4 * np.linalg.norm(e)
        assert np.mean((g == 0) & (np.abs(e) > 2.0**-14)) == 0


def test_soft_targets_of_float16_have_their_gradient_in_range():
    x, w = jnp.ones((2**12, 1), jnp.float16), jnp.zeros((1, K), jnp.float16)
    t = jnp.full((2**12, K), 0.25, jnp.float16)

    def loss(t):
        return xent_jax.with_linear_head(xent_jax.softmax_cross_entropy)(x, w, t) * 2.0**15

    # float16 has 11 bits: its rounding alone is up to 5e-4.
    np.testing.assert_allclose(jax.grad(loss)(t), np.full((2**12, K), 8 * np.log(4)), rtol=1e-3)


@pytest.mark.skipif(
    jax.__version_info__ < (0, 7), reason="on jax 0.6 the gradients are taken in the backward"
)
def test_float32_costs_nothing():
    """What is kept between forward and backward is no larger than the gradients."""
    x, w, y = jnp.ones((64, 8)), jnp.ones((8, 16)), jnp.zeros(64, jnp.int32)
    for dtype, width in ((jnp.float32, 4), (jnp.bfloat16, 2), (jnp.float16, 4)):
        args = x.astype(dtype), w.astype(dtype)
        _, pull = jax.vjp(lambda x, w: xent_jax.linear_softmax_cross_entropy(x, w, y), *args)
        kept = sum(a.nbytes for a in jax.tree.leaves(pull))
        assert kept <= (64 * 8 + 8 * 16) * width + 64
