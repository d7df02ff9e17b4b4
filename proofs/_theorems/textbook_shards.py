"""Textbook losses for m shards of k classes: logits ``[m, ..., k]``, labels among all m k."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .textbook import exponentials, reduced

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


def logsumexp(z: Array, classes: Array | None = None) -> Array:
    """log sum_j exp z_j."""
    return jnp.log(over_classes(exponentials(z, classes)))


def softmax(z: Array, classes: Array | None = None) -> Array:
    """exp z_j / sum_l exp z_l."""
    e = exponentials(z, classes)
    return e / over_classes(e, keep=True)


def softmax_entropy(z: Array) -> Array:
    """-sum_j p_j log p_j."""
    return -over_classes(softmax(z) * (z - logsumexp(z)[..., None]))


def integer_loss(
    z: Array,
    y: Array,
    *,
    examples: Array | None = None,
    ignore: int | None = None,
    smoothing: Any = None,
    c: Any = None,
    w: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-(1 - e) w_y log p_y - e / (m k) sum_j w_j log p_j + c lse^2``."""
    if ignore is not None:
        kept = y != ignore
        examples = kept if examples is None else examples & kept
        y = jnp.where(kept, y, 0)
    lse = logsumexp(z)
    surprise = lse[..., None] - z
    weights = None if w is None else at_label(per_class(w, z), y)
    losses = at_label(surprise, y) if weights is None else weights * at_label(surprise, y)
    if smoothing is not None:
        every = surprise if w is None else per_class(w, z) * surprise
        mean = over_classes(every) / (z.shape[0] * z.shape[-1])
        losses = (1 - smoothing) * losses + smoothing * mean
    if c is not None:
        losses = losses + c * lse * lse
    return reduced(losses, reduction, examples, weights)


def soft_loss(
    z: Array,
    t: Array,
    *,
    classes: Array | None = None,
    smoothing: Any = None,
    c: Any = None,
    w: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-sum_j w_j t'_j log p_j + c lse^2`` with ``t' = (1 - e) t + e / (m k)``."""
    lse = logsumexp(z, classes)
    examples = None if classes is None else jnp.any(classes, axis=(0, -1))
    if smoothing is not None:
        count = z.shape[0] * z.shape[-1]
        if classes is not None:
            count = jnp.maximum(over_classes(classes), 1)[..., None]
        t = (1 - smoothing) * t + smoothing / count
    terms = (t if w is None else per_class(w, z) * t) * (lse[..., None] - z)
    losses = over_classes(terms if classes is None else jnp.where(classes, terms, 0.0))
    if c is not None:
        losses = losses + c * lse * lse
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
