"""The losses as textbooks write them, which the library's functions must equal.

They are plain JAX without custom rules, guards or maxima: unstable in floats, but exact over the
real numbers. Sums leave out masked classes, and masked examples do not count.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

Array = Any


def at_label(x: Array, y: Array) -> Array:
    """``x[..., y]``."""
    return jnp.take_along_axis(x, y[..., None], axis=-1, mode="clip")[..., 0]


def exponentials(z: Array, classes: Array | None = None) -> Array:
    """exp z, or 0 at masked classes."""
    return jnp.exp(z) if classes is None else jnp.where(classes, jnp.exp(z), 0.0)


def logsumexp(z: Array, classes: Array | None = None) -> Array:
    """log sum_j exp z_j."""
    return jnp.log(jnp.sum(exponentials(z, classes), axis=-1))


def softmax(z: Array, classes: Array | None = None) -> Array:
    """exp z_j / sum_l exp z_l."""
    e = exponentials(z, classes)
    return e / jnp.sum(e, axis=-1, keepdims=True)


def softmax_entropy(z: Array, classes: Array | None = None) -> Array:
    """-sum_j p_j log p_j over the classes that take part; 0 if none does."""
    log_p = z - logsumexp(z, classes)[..., None]
    terms = softmax(z, classes) * log_p
    return -jnp.sum(terms if classes is None else jnp.where(classes, terms, 0.0), axis=-1)


def log_softmax(z: Array) -> Array:
    """z_j - log sum_l exp z_l."""
    return z - logsumexp(z)[..., None]


def reduced(
    losses: Array, reduction: str, examples: Array | None, by_label: Any = None, v: Any = None
) -> Array:
    """Reduces the losses of the examples that take part, each times its weight v."""
    if v is not None:
        losses = v * losses
    if examples is not None:
        losses = jnp.where(examples, losses, 0.0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return jnp.sum(losses)
    left = jnp.ones(losses.shape, bool) if examples is None else examples
    if by_label is not None or v is not None:
        weights = by_label if v is None else v if by_label is None else by_label * v
        total = jnp.sum(jnp.where(left, weights, 0.0))
        nothing = jnp.sum(left) == 0 if v is None else total == 0
        return jnp.sum(losses) / jnp.where(nothing, 1.0, total)
    return jnp.sum(losses) / jnp.maximum(jnp.sum(left), 1).astype(losses.dtype)


def integer_loss(
    z: Array,
    y: Array,
    *,
    classes: Array | None = None,
    examples: Array | None = None,
    ignore: int | None = None,
    smoothing: Any = None,
    c: Any = None,
    w: Array | None = None,
    v: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-(1 - e) w_y log p_y - e / k sum_j w_j log p_j + c lse^2``."""
    if ignore is not None:
        kept = y != ignore
        examples = kept if examples is None else examples & kept
        y = jnp.where(kept, y, 0)
    lse = logsumexp(z, classes)
    weight = 1.0 if w is None else w[y]
    losses = weight * (lse - at_label(z, y))
    if smoothing is not None:
        every = (lse[..., None] - z) if w is None else w * (lse[..., None] - z)
        losses = (1 - smoothing) * losses + smoothing * mean_over_classes(every, classes)
    if c is not None:
        losses = losses + c * lse * lse
    return reduced(losses, reduction, examples, None if w is None else weight, v)


def label_rank(z: Array, y: Array) -> Array:
    """How many classes have a larger logit than the label, or the same and a lower number."""
    own, lower = at_label(z, y)[..., None], jnp.arange(z.shape[-1]) < y[..., None]
    return jnp.sum(jnp.where(z > own, 1, jnp.where((z == own) & lower, 1, 0)), axis=-1)


def head_loss(
    x: Array, kernel: Array, y: Array, *, b: Any = None, r: Any = None, **options: Any
) -> Array:
    """``integer_loss`` of ``z = (x W + b) / r``."""
    z = x @ kernel
    if b is not None:
        z = z + b
    return integer_loss(z if r is None else z / r, y, **options)


def mean_over_classes(x: Array, classes: Array | None) -> Array:
    """The mean over the classes that take part."""
    if classes is None:
        return jnp.mean(x, axis=-1)
    left = jnp.maximum(jnp.sum(classes, axis=-1), 1)
    return jnp.sum(jnp.where(classes, x, 0.0), axis=-1) / left


def soft_loss(
    z: Array,
    t: Array,
    *,
    classes: Array | None = None,
    examples: Array | None = None,
    smoothing: Any = None,
    c: Any = None,
    w: Array | None = None,
    v: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-sum_j w_j t'_j log p_j + c lse^2`` with ``t' = (1 - e) t + e / k``."""
    lse = logsumexp(z, classes)
    if smoothing is not None:
        count = z.shape[-1] if classes is None else jnp.maximum(jnp.sum(classes, -1), 1)[..., None]
        t = (1 - smoothing) * t + smoothing / count
    if w is not None:
        t = w * t
    terms = t * (lse[..., None] - z)
    if classes is not None:
        terms = jnp.where(classes, terms, 0.0)
        some = jnp.any(classes, axis=-1)
        examples = some if examples is None else examples & some
    losses = jnp.sum(terms, axis=-1)
    if c is not None:
        losses = losses + c * lse * lse
    return reduced(losses, reduction, examples, None, v)


def softplus(z: Array) -> Array:
    """log(1 + exp z)."""
    return jnp.log(1 + jnp.exp(z))


def binary_loss(
    z: Array,
    t: Array,
    *,
    smoothing: Any = None,
    w: Array | None = None,
    where: Array | None = None,
    v: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-w t log s(z) - (1 - t) log s(-z)``."""
    if smoothing is not None:
        t = (1 - smoothing) * t + smoothing / 2
    positive = t * softplus(-z) if w is None else w * t * softplus(-z)
    return reduced(positive + (1 - t) * softplus(z), reduction, where, None, v)


def binary_focal(z: Array, t: Array, gamma: Any, alpha: Any = None) -> Array:
    """``a_t u^gamma L`` with ``u = t s(-z) + (1 - t) s(z)``."""
    s = jnp.exp(z) / (1 + jnp.exp(z))
    losses = jnp.power(t * (1 - s) + (1 - t) * s, gamma) * binary_loss(z, t)
    return losses if alpha is None else (alpha * t + (1 - alpha) * (1 - t)) * losses


def focal_loss(z: Array, y: Array, gamma: Any, **options: Any) -> Array:
    """``w_y (1 - p_y)^gamma (-log p_y)``."""
    ignore, w = options.get("ignore"), options.get("w")
    examples = options.get("examples")
    if ignore is not None:
        kept = y != ignore
        examples = kept if examples is None else examples & kept
        y = jnp.where(kept, y, 0)
    classes = options.get("classes")
    p = at_label(softmax(z, classes), y)
    losses = jnp.power(1 - p, gamma) * (logsumexp(z, classes) - at_label(z, y))
    weights = None if w is None else w[y]
    losses = losses if w is None else weights * losses
    return reduced(losses, options.get("reduction", "none"), examples, weights, options.get("v"))


def poly_loss(z: Array, t: Array, epsilon: Any, classes: Array | None = None) -> Array:
    """``sum_j t_j (-log p_j + epsilon (1 - p_j))``."""
    terms = t * (logsumexp(z, classes)[..., None] - z + epsilon * (1 - softmax(z, classes)))
    if classes is None:
        return jnp.sum(terms, axis=-1)
    losses = jnp.sum(jnp.where(classes, terms, 0.0), axis=-1)
    return jnp.where(jnp.any(classes, axis=-1), losses, 0.0)


def entropy(p: Array) -> Array:
    """``-sum_j p_j log p_j``."""
    return -jnp.sum(p * jnp.log(p), axis=-1)


def cross_entropy(p: Array, q: Array) -> Array:
    """``-sum_j p_j log q_j``."""
    return -jnp.sum(p * jnp.log(q), axis=-1)


def relative_entropy(p: Array, q: Array) -> Array:
    """``sum_j p_j log(p_j / q_j)``."""
    return jnp.sum(p * jnp.log(p / q), axis=-1)


def kl_divergence(log_q: Array, t: Array) -> Array:
    """``sum_j t_j (log t_j - l_j)``."""
    return jnp.sum(t * (jnp.log(t) - log_q), axis=-1)


def kl_divergence_with_log_targets(log_q: Array, log_t: Array) -> Array:
    """``sum_j exp(u_j) (u_j - l_j)``."""
    return jnp.sum(jnp.exp(log_t) * (log_t - log_q), axis=-1)


def generalized_kl_divergence(log_q: Array, t: Array) -> Array:
    """``sum_j (t_j (log t_j - l_j) + exp(l_j) - t_j)``."""
    return jnp.sum(t * (jnp.log(t) - log_q) + jnp.exp(log_q) - t, axis=-1)


def softmax_kl(z: Array, w: Array, **options: Any) -> Array:
    """``sum_j p_j (log p_j - log q_j)`` with ``p = softmax(w)`` and ``q = softmax(z)``."""
    terms = softmax(w) * (log_softmax(w) - log_softmax(z))
    losses = jnp.sum(terms, axis=-1)
    return reduced(losses, options.get("reduction", "none"), options.get("examples"))


def softmax_jensen_shannon(z: Array, w: Array, beta: Any = 0.5, **options: Any) -> Array:
    """``beta KL(p || m) + (1 - beta) KL(q || m)``, p and q as there, m = beta p + (1 - beta) q."""
    p, q = softmax(w), softmax(z)
    log_m = jnp.log(beta * p + (1 - beta) * q)
    terms = beta * p * (log_softmax(w) - log_m) + (1 - beta) * q * (log_softmax(z) - log_m)
    losses = jnp.sum(terms, axis=-1)
    return reduced(losses, options.get("reduction", "none"), options.get("examples"))


def softcap(z: Array, c: Any) -> Array:
    """c tanh(z / c)."""
    return c * jnp.tanh(z / c)
