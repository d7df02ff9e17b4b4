"""Textbook losses for m shards of k classes: logits ``[m, ..., k]``, labels among all m k."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .textbook import exponentials, labeled, reduced

Array = Any


def over_classes(x: Array, keep: bool = False) -> Array:
    """The sum over all classes of all shards."""
    return jnp.sum(x, axis=(0, -1), keepdims=keep)


def per_class(w: Array, like: Array) -> Array:
    """Reshapes ``[m, k]`` to the rank of the logits."""
    return jnp.expand_dims(w, range(1, like.ndim - 1))


def at_label(x: Array, y: Array) -> Array:
    """The label's entry; class j of shard s has the number s k + j."""
    shards, k = x.shape[0], x.shape[-1]
    number = jnp.expand_dims(jnp.arange(shards) * k, range(1, x.ndim)) + jnp.arange(k)
    return over_classes(jnp.where(number == y[..., None], x, 0.0))


def logsumexp(z: Array, where: Array | None = None) -> Array:
    """log sum_j exp z_j."""
    return jnp.log(over_classes(exponentials(z, where)))


def softmax(z: Array, where: Array | None = None) -> Array:
    """exp z_j / sum_l exp z_l."""
    e = exponentials(z, where)
    return e / over_classes(e, keep=True)


def softmax_entropy(z: Array) -> Array:
    """-sum_j p_j log p_j."""
    return -over_classes(softmax(z) * (z - logsumexp(z)[..., None]))


def integer_loss(
    z: Array,
    y: Array,
    *,
    where: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: Any = None,
    z_loss: Any = None,
    class_weights: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-(1 - e) w_y log p_y - e / (m k) sum_j w_j log p_j + c lse^2``; ``where`` of examples."""
    y, examples = labeled(y, where, ignore_index)
    lse = logsumexp(z)
    surprise = lse[..., None] - z
    w = None if class_weights is None else per_class(class_weights, z)
    own = None if w is None else at_label(w, y)
    losses = at_label(surprise, y) if own is None else own * at_label(surprise, y)
    if label_smoothing is not None:
        every = surprise if w is None else w * surprise
        mean = over_classes(every) / (z.shape[0] * z.shape[-1])
        losses = (1 - label_smoothing) * losses + label_smoothing * mean
    if z_loss is not None:
        losses = losses + z_loss * lse * lse
    return reduced(losses, reduction, examples, own)


def soft_loss(
    z: Array,
    t: Array,
    *,
    where: Array | None = None,
    label_smoothing: Any = None,
    z_loss: Any = None,
    class_weights: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-sum_j w_j t'_j log p_j + c lse^2`` with ``t' = (1 - e) t + e / (m k)``."""
    lse = logsumexp(z, where)
    examples = None if where is None else jnp.any(where, axis=(0, -1))
    if label_smoothing is not None:
        count = z.shape[0] * z.shape[-1]
        if where is not None:
            count = jnp.maximum(over_classes(where), 1)[..., None]
        t = (1 - label_smoothing) * t + label_smoothing / count
    if class_weights is not None:
        t = per_class(class_weights, z) * t
    terms = t * (lse[..., None] - z)
    losses = over_classes(terms if where is None else jnp.where(where, terms, 0.0))
    if z_loss is not None:
        losses = losses + z_loss * lse * lse
    return reduced(losses, reduction, examples)


def focal_loss(z: Array, y: Array, gamma: Any) -> Array:
    """``(1 - p_y)^gamma (-log p_y)``."""
    return jnp.power(1 - at_label(softmax(z), y), gamma) * integer_loss(z, y)


def softmax_kl(z: Array, w: Array) -> Array:
    """``sum_j p_j (log p_j - log q_j)`` with ``p = softmax(w)``, ``q = softmax(z)``."""
    more = logsumexp(z) - logsumexp(w)
    return over_classes(softmax(w) * (w - z + more[:, None]))


def softmax_jensen_shannon(z: Array, w: Array) -> Array:
    """``(KL(p || m) + KL(q || m)) / 2`` with p and q as there and ``m = (p + q) / 2``."""
    p, q = softmax(w), softmax(z)
    log_m = jnp.log((p + q) / 2)
    log_p, log_q = (x - logsumexp(x)[..., None] for x in (w, z))
    return over_classes(p * (log_p - log_m) + q * (log_q - log_m)) / 2


def poly_loss(z: Array, t: Array, epsilon: Any) -> Array:
    """``sum_j t_j (-log p_j + epsilon (1 - p_j))``."""
    return soft_loss(z, t) + epsilon * over_classes(t * (1 - softmax(z)))
