"""Computes token statistics by their definitions, and calls and compares the library's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import heads
from tests.problems import close
from xent_jax import forward_mode

FLOATS = ("loss", "logsumexp", "entropy", "top_k_log_probabilities")
WHOLE = ("argmax", "label_rank", "top_k_indices")

sources = pytest.mark.parametrize("source", ["logits", "head"])
jit_and_mode = pytest.mark.parametrize(
    ("jit", "module"), [(True, xent_jax), (False, forward_mode)], ids=["jit-vjp", "eager-jvp"]
)


@functools.partial(jax.jit, static_argnames="top_k")
def of_logits(z, y, top_k=3):
    """Returns the statistics by their definitions; ties are in the order of the classes."""
    log_p, order = jax.nn.log_softmax(z), jnp.argsort(-z, axis=-1, stable=True)
    first = order[..., :top_k]
    return {
        "loss": heads.plain(z, y),
        "logsumexp": jax.nn.logsumexp(z, axis=-1),
        "entropy": -jnp.sum(jnp.exp(log_p) * log_p, axis=-1),
        "argmax": order[..., 0],
        "label_rank": jnp.argmax(order == y[..., None], axis=-1),
        "top_k_log_probabilities": jnp.take_along_axis(log_p, first, -1),
        "top_k_indices": first,
    }


def equal_zeros_tie(found, z, top_k):
    """Asserts that the statistics rank classes as NumPy sorts them, where -0.0 equals 0.0.

    Each token has the logits z, and each class is the label of one token.
    """
    order = np.argsort(-z, kind="stable")
    tokens = len(found.argmax)
    np.testing.assert_array_equal(found.argmax, np.full(tokens, order[0]))
    np.testing.assert_array_equal(found.label_rank, np.argsort(order, kind="stable"))
    np.testing.assert_array_equal(found.top_k_indices, np.tile(order[:top_k], (tokens, 1)))


def drawn(source, batch, tied=True):
    """Draws the logits, or inputs, kernel and bias, and labels; two classes tie if ``tied``."""
    x, w, b, y = heads.drawn(batch)
    if tied:
        w, b = w.at[:, 4].set(w[:, 9]), b.at[4].set(b[9])
    floats = (x, w, b) if source == "head" else (x @ w + b,)
    return floats, y


def logits_of(floats):
    z, *layer = floats
    return z @ layer[0] + layer[1] if layer else z


def statistics(floats, y, module=xent_jax, **options):
    if len(floats) == 1:
        return module.token_statistics(*floats, y, **options)
    x, w, b = floats
    return module.linear_token_statistics(x, w, y, b, **options)


def compare(found, wanted, tolerance=1e-12):
    for name in FLOATS:
        close(getattr(found, name), wanted[name], tolerance)
    for name in WHOLE:
        assert getattr(found, name).dtype == jnp.int32
        np.testing.assert_array_equal(getattr(found, name), wanted[name])


def weighed(found):
    """Combines all floating-point fields into one number for each token."""
    return found.loss + 2 * found.logsumexp * found.entropy + found.top_k_log_probabilities[..., 0]


def filled(found, rows, floats=np.nan):
    """Returns the statistics with NaN, or another number, in some rows; integers are -1."""
    arrays = {name: np.array(getattr(found, name)) for name in found._fields}
    for name, array in arrays.items():
        array[rows] = floats if name in FLOATS else -1
    return found._replace(**arrays)
