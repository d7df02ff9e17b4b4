"""Inputs of a linear head, its loss and statistics of logits that are held, and comparisons."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from xent_jax import forward_mode

WIDTH, CLASSES = 5, 11
REDUCTIONS = ("mean", "sum", "none")

modes = pytest.mark.parametrize("module", [xent_jax, forward_mode], ids=["vjp", "jvp"])
jit_and_mode = pytest.mark.parametrize(
    ("jit", "module"), [(True, xent_jax), (False, forward_mode)], ids=["jit-vjp", "eager-jvp"]
)


def drawn(batch, seed=0, classes=CLASSES):
    rng = np.random.default_rng(seed)
    x, w, b = (
        rng.normal(size=(*batch, WIDTH)),
        rng.normal(size=(WIDTH, classes)),
        rng.normal(size=classes),
    )
    y = rng.integers(0, classes, batch).astype(np.int32)
    return tuple(map(jnp.asarray, (x, w, b, y)))


def held(
    x, w, y, bias=None, where=None, *, logit_softcap=None, temperature=1.0, reduction="mean",
    **given,
):  # fmt: skip
    """The head's loss from all logits; JAX differentiates it in either mode."""
    z = x @ w if bias is None else x @ w + bias
    z = z if logit_softcap is None else forward_mode.softcap(z, logit_softcap)
    loss = forward_mode.softmax_cross_entropy_with_integer_labels
    return loss(z / temperature, y, where=where, reduction=reduction, **given)


def plain(z, y):
    """The loss of each token, in plain JAX."""
    return jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[..., None], -1)[..., 0]


def _weights(out):
    return jnp.cos(1.0 + jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)


def scalar(loss):
    """A number that weighs every loss differently."""

    def of(*args, **kwargs):
        out = loss(*args, **kwargs)
        return jnp.sum(out * _weights(out))

    return of


def pulled(loss, *args):
    """The losses, and the gradients of that number to each argument."""
    out, pull = jax.vjp(loss, *args)
    return out, pull(_weights(out))


def pulled_by_name(loss, floats):
    """The losses of named arrays, and the gradient of that number to each."""
    out, (gradients,) = pulled(loss, floats)
    return out, gradients


def reduced(losses, reduction):
    return {"mean": jnp.mean, "sum": jnp.sum, "none": lambda x: x}[reduction](losses)


def same(got, wanted, digits=12):
    got, wanted = jax.tree.leaves(got), jax.tree.leaves(wanted)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=10.0**-digits, atol=10.0**-digits)


# --------------------------------------------------------------------- token statistics

FLOATS = ("loss", "logsumexp", "entropy", "top_k_log_probabilities")
WHOLE = ("argmax", "label_rank", "top_k_indices")


def of_logits(z, y, top_k=3):
    """Returns the statistics by their definitions; ties are in the order of the classes."""
    log_p, order = jax.nn.log_softmax(z), jnp.argsort(-z, axis=-1, stable=True)
    first = order[..., :top_k]
    return {
        "loss": plain(z, y),
        "logsumexp": jax.nn.logsumexp(z, axis=-1),
        "entropy": -jnp.sum(jnp.exp(log_p) * log_p, axis=-1),
        "argmax": order[..., 0],
        "label_rank": jnp.argmax(order == y[..., None], axis=-1),
        "top_k_log_probabilities": jnp.take_along_axis(log_p, first, -1),
        "top_k_indices": first,
    }


def equal_zeros_tie(found, z, top_k):
    """Asserts that classes come first as NumPy orders them, where -0.0 equals 0.0.

    Each token has the logits z, and each class is the label of one.
    """
    order = np.argsort(-z, kind="stable")
    tokens = len(found.argmax)
    np.testing.assert_array_equal(found.argmax, np.full(tokens, order[0]))
    np.testing.assert_array_equal(found.label_rank, np.argsort(order, kind="stable"))
    np.testing.assert_array_equal(found.top_k_indices, np.tile(order[:top_k], (tokens, 1)))
