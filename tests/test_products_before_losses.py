"""Losses are right if the same program computes the logits as a product or a sum.

If XLA:CPU computes a product and the subtraction after it in one loop, it contracts them into one
operation with one rounding. The loss then takes the maximum of rounded logits, but subtracts it
from logits that are not rounded. They differ by half a unit in the last place, which is 32 for
logits of 1e9.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.measure import reverse

INTEGER = xent_jax.softmax_cross_entropy_with_integer_labels
Y = jnp.arange(40) % 20


def soft(x):
    return jax.nn.one_hot(jnp.arange(len(x)) % x.shape[1], x.shape[1], dtype=x.dtype)


LOSSES = {
    "integer": lambda z: INTEGER(z, Y),
    "integer, smoothed": lambda z: INTEGER(z, Y, label_smoothing=0.1),
    "integer, ignored": lambda z: INTEGER(z, Y, ignore_index=-100),
    "soft": lambda z: xent_jax.softmax_cross_entropy(z, soft(z)),
    "divergence": lambda z: xent_jax.softmax_kl_divergence(z, soft(z)),
    "mixture": lambda z: xent_jax.softmax_jensen_shannon_divergence(z, soft(z)),
    "poly": lambda z: xent_jax.poly_loss_cross_entropy(z, soft(z)),
    "focal": lambda z: xent_jax.softmax_focal_loss(z, Y),
    "log_softmax": lambda z: -jnp.take_along_axis(xent_jax.log_softmax(z), Y[:, None], 1)[:, 0],
    "softmax": lambda z: 1 - jnp.take_along_axis(xent_jax.softmax(z), Y[:, None], 1)[:, 0],
    "logsumexp": xent_jax.logsumexp,
}


divide = jax.jit(lambda x: x / 3)


def value_alone(f):
    compiled = jax.jit(f)
    return lambda x: (compiled(x), None)


WAYS = {  # to compute losses and the gradient of their sum
    "vjp of jit": lambda f: functools.partial(reverse, jax.jit(f)),
    "jit of vjp": lambda f: jax.jit(functools.partial(reverse, f)),
    "value alone": value_alone,
}
SCALES = 1e4, 1e8, 1e9


@functools.cache
def logits(scale, k):
    """Returns rows of ``k`` logits, of which the logit at ``Y`` is the largest, alone or tied."""
    rng = np.random.default_rng(0)
    x = scale * (3 + 1e-7 * rng.integers(-20, 1, (len(Y), k)))
    x[::2, :] = scale * rng.uniform(1, 2, (len(Y) // 2, k))
    x[np.arange(len(Y)), Y % k] = np.where(np.arange(len(Y)) % 3, scale * 3, x.max(axis=1))
    return jnp.asarray(x, jnp.float32)


QUICK = {("vjp of jit", 1000), ("jit of vjp", 20), ("value alone", 1000)}


@pytest.mark.parametrize(
    ("way", "k"),
    [
        pytest.param(way, k, marks=() if (way, k) in QUICK else pytest.mark.slow)
        for way in WAYS
        for k in (20, 1000)
    ],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_divided_logits(loss, k, way):
    """The loss of ``x / 3`` in one program is the loss of quotients that another program stored."""
    f = LOSSES[loss]
    of_quotients, of_logits = WAYS[way](lambda x: f(x / 3)), WAYS[way](f)
    for scale in SCALES:
        x = logits(scale, k)
        losses, gradient = of_quotients(x)
        wanted, slope = of_logits(divide(x))
        # Two programs may add in different orders, which changes a few last places, or a loss of
        # exactly 0 by 1e-12. A contracted product errs by 2e-4 or more here.
        np.testing.assert_allclose(losses, wanted, rtol=2e-6, atol=1e-12)
        if loss != "logsumexp":
            assert (np.asarray(losses) >= 0).all()
        if gradient is not None:
            np.testing.assert_allclose(gradient, slope / 3, rtol=5e-6, atol=1e-7)
