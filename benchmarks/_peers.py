"""Defines the losses of xent_jax and of other libraries that several benchmarks compile."""

import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

import xent_jax

try:
    import tokamax

    logging.getLogger("absl").setLevel(logging.ERROR)  # tokamax warns of all untuned shapes
except ImportError:
    tokamax = None

INTEGER = "softmax_cross_entropy_with_integer_labels"
head = xent_jax.linear_softmax_cross_entropy
ours, of_optax = getattr(xent_jax, INTEGER), getattr(optax, INTEGER)


def mean(loss: Callable, **options) -> Callable:
    """Returns the mean loss of logits and labels."""
    return lambda z, labels: loss(z, labels, **options).mean()


def held(loss: Callable, dtype=None) -> Callable:
    """Returns the mean loss of all logits, which are cast to a dtype if one is given."""
    return lambda x, w, y: loss(jnp.asarray(x @ w, dtype), y).mean()


def of_tokamax(x, w, y):
    chosen = {"reduction": "mean", "implementation": "chunked_xla"}
    return tokamax.linear_softmax_cross_entropy_loss(x, y, w, **chosen)


TOKAMAX = {"tokamax head, chunked_xla": of_tokamax} if tokamax else {}
LEFT_OUT = [] if tokamax else ["tokamax: pip install tokamax, for Python 3.12 or later"]


def pullback(x, w, y, g, *_):
    """Returns the head's losses without a reduction, and the gradients for their cotangents g."""
    losses, pull = jax.vjp(lambda x, w: head(x, w, y, reduction="none"), x, w)
    return losses, pull(g)


def room(tokens: int, classes: int) -> dict[str, int]:
    """Returns the head's option for chunks of so many tokens, from the float32 bytes they take."""
    return {"max_logits_bytes": 2 * 4 * tokens * classes}


def chunked(tokens: int) -> Callable:
    """Returns the head with room for the logits of that many tokens."""
    return lambda x, w, y: head(x, w, y, **room(tokens, w.shape[1]))


def optax_soft(z, t, label_smoothing=0.0, z_loss=0.0, class_weights=None):
    """Returns losses of soft labels, with our options as users of optax write them."""
    if label_smoothing:
        t = optax.smooth_labels(t, label_smoothing)
    losses = optax.softmax_cross_entropy(z, t if class_weights is None else class_weights * t)
    return losses + z_loss * jax.nn.logsumexp(z, -1) ** 2 if z_loss else losses


def optax_integer(z, y, label_smoothing=0.0, z_loss=0.0, ignore_index=None):
    """Returns losses of integer labels, with our options as users of optax write them."""
    if ignore_index is not None:
        kept = y != ignore_index
        y = jnp.where(kept, y, 0)
    if label_smoothing:
        losses = optax_soft(z, jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype), label_smoothing)
    else:
        losses = of_optax(z, y)
    if z_loss:
        losses = losses + z_loss * jax.nn.logsumexp(z, -1) ** 2
    return losses if ignore_index is None else jnp.where(kept, losses, 0.0)
