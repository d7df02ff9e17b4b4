"""Inputs of a linear head, its loss and statistics of logits that are held, and comparisons."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax

WIDTH, CLASSES = 5, 11


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
    z = x @ w if bias is None else x @ w + bias
    z = z if logit_softcap is None else xent_jax.softcap(z, logit_softcap)
    z = z / temperature
    loss = xent_jax.softmax_cross_entropy_with_integer_labels
    return loss(z, y, where=where, reduction=reduction, **given)


def scalar(loss):
    """A number that weighs every loss differently."""

    def of(*args, **kwargs):
        out = loss(*args, **kwargs)
        return jnp.sum(out * jnp.cos(1.0 + jnp.arange(out.size)).reshape(out.shape))

    return of


def same(got, wanted, digits=12):
    got, wanted = jax.tree.leaves(got), jax.tree.leaves(wanted)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=10.0**-digits, atol=10.0**-digits)


# --------------------------------------------------------------------- token statistics

FLOATS = ("loss", "logsumexp", "entropy", "top_k_log_probabilities")


WHOLE = ("argmax", "label_rank", "top_k_indices")


modes = pytest.mark.parametrize("module", [xent_jax, xent_jax.forward_mode], ids=["vjp", "jvp"])


jit_and_mode = pytest.mark.parametrize(
    ("jit", "module"),
    [(True, xent_jax), (False, xent_jax.forward_mode)],
    ids=["jit-vjp", "eager-jvp"],
)


def of_logits(z, y, top_k=3):
    """By NumPy's definitions, ties in the order of the classes."""
    p = np.exp(np.asarray(z) - np.max(z, axis=-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    order = np.argsort(-np.asarray(z), axis=-1, kind="stable")
    given = np.take_along_axis(p, np.asarray(y)[..., None], -1)[..., 0]
    return {
        "loss": -np.log(given),
        "logsumexp": np.log(np.exp(np.asarray(z)).sum(-1)),
        "entropy": -(p * np.log(p)).sum(-1),
        "argmax": order[..., 0],
        "label_rank": np.argmax(order == np.asarray(y)[..., None], axis=-1),
        "top_k_log_probabilities": np.log(np.take_along_axis(p, order, -1))[..., :top_k],
        "top_k_indices": order[..., :top_k],
    }


def first_classes(z, top_k):
    """Argmax, rank of each label and the likeliest classes, by NumPy, where -0.0 equals 0.0."""
    order = np.argsort(-np.asarray(z, np.float64), axis=-1, kind="stable")
    return order[:, 0], np.argsort(order, axis=-1), order[:, :top_k]
