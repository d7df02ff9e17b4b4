"""Computes losses as a textbook writes them, with all options, for JAX to differentiate in float64.

The last axis has the classes. The code takes no care of rounding. A class whose logit is -inf must
have the label 0.
"""

import math

import jax
import jax.numpy as jnp


def left_in(z, where=None):
    """Returns whether each class is left in, by a mask of classes or examples, or by None."""
    where = jnp.ones((), bool) if where is None else jnp.asarray(where)
    return jnp.broadcast_to(where[..., None] if where.ndim == z.ndim - 1 else where, z.shape)


def logsumexp(z, where=None):
    left = left_in(z, where)
    total = jnp.where(left, jnp.exp(jnp.where(left, z, 0)), 0).sum(-1)
    return jnp.log(jnp.where(total == 0, 1, total))


def log_softmax(z, where=None):
    """Returns the log-softmax, with 0 where a class is left out or its logit is -inf."""
    there = left_in(z, where) & ~jnp.isneginf(z)
    return jnp.where(there, jnp.where(there, z, 0) - logsumexp(z, where)[..., None], 0)


def softmax(z, where=None):
    return jnp.where(left_in(z, where) & ~jnp.isneginf(z), jnp.exp(log_softmax(z, where)), 0)


def reduced(losses, kept, reduction, by_label=None, weights=None):
    """Reduces losses; a mean weighs each by its example's weight times its label's weight."""
    factors = [w for w in (by_label, weights) if w is not None]
    losses = jnp.where(kept, losses if weights is None else weights * losses, 0)
    if reduction != "mean":
        return losses.sum() if reduction == "sum" else losses
    count = jnp.where(kept, math.prod(factors, start=jnp.ones(kept.shape)), 0).sum()
    nothing = ~kept.any() if weights is None else count == 0
    return losses.sum() / jnp.where(nothing, 1, count)


def _soft(z, t, where, label_smoothing, z_loss, class_weights):
    count = jnp.maximum(left_in(z, where).sum(-1, keepdims=True), 1)
    t = class_weights * ((1 - label_smoothing) * t + label_smoothing / count)
    return -(t * log_softmax(z, where)).sum(-1) + z_loss * logsumexp(z, where) ** 2


def soft(
    z, t, where=None, label_smoothing=0.0, z_loss=0.0, class_weights=1.0, weights=None,
    reduction="none",
):  # fmt: skip
    losses = _soft(z, t, where, label_smoothing, z_loss, class_weights)
    return reduced(losses, left_in(z, where).any(-1), reduction, weights=weights)


def _of_labels(losses, z, y, where, ignore_index, class_weights, weights, reduction):
    kept = left_in(z, where).any(-1)
    kept = kept if ignore_index is None else kept & (y != ignore_index)
    by_label = None if class_weights is None else jnp.take(class_weights, y, mode="clip")
    return reduced(losses, kept, reduction, by_label, weights)


def integer(
    z, y, where=None, ignore_index=None, label_smoothing=0.0, z_loss=0.0, class_weights=None,
    weights=None, reduction="none",
):  # fmt: skip
    w = 1.0 if class_weights is None else class_weights
    t = jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype)
    losses = _soft(z, t, where, label_smoothing, z_loss, w)
    return _of_labels(losses, z, y, where, ignore_index, class_weights, weights, reduction)


def focal(
    z, y, where=None, gamma=2.0, class_weights=None, weights=None, reduction="none",
    ignore_index=None,
):  # fmt: skip
    loss = integer(z, y, where)
    w = 1.0 if class_weights is None else jnp.take(class_weights, y, mode="clip")
    wrong = 1 - jnp.exp(-loss)  # 0 where one class is left
    losses = w * jnp.where(wrong > 0, jnp.where(wrong > 0, wrong, 1) ** gamma * loss, 0)
    return _of_labels(losses, z, y, where, ignore_index, class_weights, weights, reduction)


def poly(z, t, where=None, epsilon=2.0):
    missed = jnp.where(left_in(z, where), t * (1 - softmax(z, where)), 0).sum(-1)
    return soft(z, t, where) + epsilon * missed


def binary(z, t, where=None, label_smoothing=0.0, pos_weight=1.0, weights=None, reduction="none"):
    t = (1 - label_smoothing) * t + label_smoothing / 2
    losses = pos_weight * t * jax.nn.softplus(-z) + (1 - t) * jax.nn.softplus(z)
    kept = jnp.ones(z.shape, bool) if where is None else where
    weights = None if weights is None else jnp.broadcast_to(weights, z.shape)
    return reduced(losses, kept, reduction, weights=weights)


def binary_focal(z, t, alpha=None, gamma=2.0):
    p = jax.nn.sigmoid(z)
    wrong = t * (1 - p) + (1 - t) * p
    losses = wrong**gamma * binary(z, t)
    return losses if alpha is None else (alpha * t + (1 - alpha) * (1 - t)) * losses


def softmax_kl(z, w, temperature=1.0, weights=None, reduction="none"):
    log_q, log_p = log_softmax(z / temperature), log_softmax(w / temperature)
    losses = (jnp.exp(log_p) * (log_p - log_q)).sum(-1)
    return reduced(losses, jnp.ones(losses.shape, bool), reduction, weights=weights)


def softmax_js(z, w, beta=0.5, temperature=1.0, weights=None, reduction="none"):
    log_q, log_p = log_softmax(z / temperature), log_softmax(w / temperature)
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    log_m = jnp.log(beta * p + (1 - beta) * q)
    losses = (beta * p * (log_p - log_m) + (1 - beta) * q * (log_q - log_m)).sum(-1)
    return reduced(losses, jnp.ones(losses.shape, bool), reduction, weights=weights)
