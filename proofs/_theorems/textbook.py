"""The losses as textbooks write them, which the library's functions must equal.

They are plain JAX without custom rules, guards or maxima: unstable in floats, but exact over the
real numbers. Sums leave out masked classes, and masked examples do not count.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

Array = Any


def at_label(x: Array, y: Array) -> Array:
    """``x[..., y]``."""
    return jnp.take_along_axis(x, y[..., None], axis=-1, mode="clip")[..., 0]


def parts(where: Array | None, z: Array) -> tuple[Array | None, Array | None]:
    """Returns the mask of classes and that of examples: one of them is ``where``, by its rank."""
    by_class = where is not None and where.ndim == z.ndim
    return (where, None) if by_class else (None, where)


def labeled(y: Array, examples: Array | None, ignore_index: int | None) -> tuple[Array, Any]:
    """Returns labels in range, and the examples that take part."""
    if ignore_index is None:
        return y, examples
    kept = y != ignore_index
    return jnp.where(kept, y, 0), kept if examples is None else examples & kept


def exponentials(z: Array, where: Array | None = None) -> Array:
    """exp z, or 0 at masked classes."""
    return jnp.exp(z) if where is None else jnp.where(where, jnp.exp(z), 0.0)


def logsumexp(z: Array, where: Array | None = None) -> Array:
    """log sum_j exp z_j."""
    return jnp.log(jnp.sum(exponentials(z, where), axis=-1))


def softmax(z: Array, where: Array | None = None) -> Array:
    """exp z_j / sum_l exp z_l."""
    e = exponentials(z, where)
    return e / jnp.sum(e, axis=-1, keepdims=True)


def softmax_entropy(z: Array, where: Array | None = None) -> Array:
    """-sum_j p_j log p_j over the classes that take part; 0 if none does."""
    log_p = z - logsumexp(z, where)[..., None]
    terms = softmax(z, where) * log_p
    return -jnp.sum(terms if where is None else jnp.where(where, terms, 0.0), axis=-1)


def log_softmax(z: Array) -> Array:
    """z_j - log sum_l exp z_l."""
    return z - logsumexp(z)[..., None]


def reduced(
    losses: Array, reduction: str, examples: Any = None, by_label: Any = None, weights: Any = None
) -> Array:
    """Reduces the losses of the examples that take part, each times its weight."""
    if weights is not None:
        losses = weights * losses
    if examples is not None:
        losses = jnp.where(examples, losses, 0.0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return jnp.sum(losses)
    left = jnp.ones(losses.shape, bool) if examples is None else examples
    given = [w for w in (by_label, weights) if w is not None]
    if given:
        total = jnp.sum(jnp.where(left, math.prod(given), 0.0))
        nothing = jnp.sum(left) == 0 if weights is None else total == 0
        return jnp.sum(losses) / jnp.where(nothing, 1.0, total)
    return jnp.sum(losses) / jnp.maximum(jnp.sum(left), 1).astype(losses.dtype)


def integer_loss(
    z: Array,
    y: Array,
    *,
    where: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: Any = None,
    z_loss: Any = None,
    class_weights: Array | None = None,
    weights: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-(1 - e) w_y log p_y - e / k sum_j w_j log p_j + c lse^2``."""
    classes, examples = parts(where, z)
    y, examples = labeled(y, examples, ignore_index)
    lse = logsumexp(z, classes)
    own = None if class_weights is None else class_weights[y]
    losses = lse - at_label(z, y) if own is None else own * (lse - at_label(z, y))
    if label_smoothing is not None:
        every = lse[..., None] - z if own is None else class_weights * (lse[..., None] - z)
        mean = mean_over_classes(every, classes)
        losses = (1 - label_smoothing) * losses + label_smoothing * mean
    if z_loss is not None:
        losses = losses + z_loss * lse * lse
    return reduced(losses, reduction, examples, own, weights)


def label_rank(z: Array, y: Array) -> Array:
    """How many classes have a larger logit than the label, or the same and a lower number."""
    own, lower = at_label(z, y)[..., None], jnp.arange(z.shape[-1]) < y[..., None]
    return jnp.sum(jnp.where(z > own, 1, jnp.where((z == own) & lower, 1, 0)), axis=-1)


def head_loss(
    x: Array,
    kernel: Array,
    y: Array,
    *,
    bias: Any = None,
    temperature: Any = 1,
    kernel_axes: str = "DV",
    **options: Any,
) -> Array:
    """``integer_loss`` of ``z = (x W + b) / T``."""
    z = x @ (kernel if kernel_axes == "DV" else kernel.T)
    return integer_loss((z if bias is None else z + bias) / temperature, y, **options)


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
    where: Array | None = None,
    label_smoothing: Any = None,
    z_loss: Any = None,
    class_weights: Array | None = None,
    weights: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-sum_j w_j t'_j log p_j + c lse^2`` with ``t' = (1 - e) t + e / k``."""
    classes, examples = parts(where, z)
    lse = logsumexp(z, classes)
    if label_smoothing is not None:
        count = z.shape[-1] if classes is None else jnp.maximum(jnp.sum(classes, -1), 1)[..., None]
        t = (1 - label_smoothing) * t + label_smoothing / count
    if class_weights is not None:
        t = class_weights * t
    terms = t * (lse[..., None] - z)
    if classes is not None:
        terms, examples = jnp.where(classes, terms, 0.0), jnp.any(classes, axis=-1)
    losses = jnp.sum(terms, axis=-1)
    if z_loss is not None:
        losses = losses + z_loss * lse * lse
    return reduced(losses, reduction, examples, None, weights)


def softplus(z: Array) -> Array:
    """log(1 + exp z)."""
    return jnp.log(1 + jnp.exp(z))


def binary_loss(
    z: Array,
    t: Array,
    *,
    label_smoothing: Any = None,
    pos_weight: Any = None,
    where: Array | None = None,
    weights: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``-w t log s(z) - (1 - t) log s(-z)``."""
    if label_smoothing is not None:
        t = (1 - label_smoothing) * t + label_smoothing / 2
    positive = t * softplus(-z) if pos_weight is None else pos_weight * t * softplus(-z)
    return reduced(positive + (1 - t) * softplus(z), reduction, where, None, weights)


def binary_focal(z: Array, t: Array, *, gamma: Any, alpha: Any = None) -> Array:
    """``a_t u^gamma L`` with ``u = t s(-z) + (1 - t) s(z)``."""
    t, s = t * jnp.ones_like(z), jnp.exp(z) / (1 + jnp.exp(z))
    losses = jnp.power(t * (1 - s) + (1 - t) * s, gamma) * binary_loss(z, t)
    return losses if alpha is None else (alpha * t + (1 - alpha) * (1 - t)) * losses


def focal_loss(
    z: Array,
    y: Array,
    *,
    gamma: Any,
    ignore_index: int | None = None,
    class_weights: Array | None = None,
    weights: Array | None = None,
    reduction: str = "none",
) -> Array:
    """``w_y (1 - p_y)^gamma (-log p_y)``."""
    y, examples = labeled(y, None, ignore_index)
    losses = jnp.power(1 - at_label(softmax(z), y), gamma) * (logsumexp(z) - at_label(z, y))
    own = None if class_weights is None else class_weights[y]
    return reduced(losses if own is None else own * losses, reduction, examples, own, weights)


def poly_loss(z: Array, t: Array, epsilon: Any, where: Array | None = None) -> Array:
    """``sum_j t_j (-log p_j + epsilon (1 - p_j))``."""
    terms = t * (logsumexp(z, where)[..., None] - z + epsilon * (1 - softmax(z, where)))
    if where is None:
        return jnp.sum(terms, axis=-1)
    losses = jnp.sum(jnp.where(where, terms, 0.0), axis=-1)
    return jnp.where(jnp.any(where, axis=-1), losses, 0.0)


def entropy(p: Array) -> Array:
    """``-sum_j p_j log p_j``."""
    return -jnp.sum(p * jnp.log(p), axis=-1)


def cross_entropy(p: Array, q: Array) -> Array:
    """``-sum_j p_j log q_j``."""
    return -jnp.sum(p * jnp.log(q), axis=-1)


def relative_entropy(p: Array, q: Array) -> Array:
    """``sum_j p_j log(p_j / q_j)``."""
    return jnp.sum(p * jnp.log(p / q), axis=-1)


def kl_divergence(log_q: Array, t: Array, where: Array | None = None) -> Array:
    """``sum_j t_j (log t_j - l_j)``."""
    terms = t * (jnp.log(t) - log_q)
    return jnp.sum(terms if where is None else jnp.where(where, terms, 0.0), axis=-1)


def kl_divergence_with_log_targets(log_q: Array, log_t: Array) -> Array:
    """``sum_j exp(u_j) (u_j - l_j)``."""
    return jnp.sum(jnp.exp(log_t) * (log_t - log_q), axis=-1)


def generalized_kl_divergence(log_q: Array, t: Array) -> Array:
    """``sum_j (t_j (log t_j - l_j) + exp(l_j) - t_j)``."""
    return jnp.sum(t * (jnp.log(t) - log_q) + jnp.exp(log_q) - t, axis=-1)


def softmax_kl(
    z: Array, w: Array, where: Any = None, temperature: Any = 1, reduction: str = "none"
) -> Array:
    """``sum_j p_j (log p_j - log q_j)`` with ``p = softmax(w / T)`` and ``q = softmax(z / T)``."""
    z, w = z / temperature, w / temperature
    terms = softmax(w) * (log_softmax(w) - log_softmax(z))
    return reduced(jnp.sum(terms, axis=-1), reduction, where)


def softmax_jensen_shannon(z: Array, w: Array, beta: Any = 0.5) -> Array:
    """``beta KL(p || m) + (1 - beta) KL(q || m)``, p and q as there, m = beta p + (1 - beta) q."""
    p, q = softmax(w), softmax(z)
    log_m = jnp.log(beta * p + (1 - beta) * q)
    terms = beta * p * (log_softmax(w) - log_m) + (1 - beta) * q * (log_softmax(z) - log_m)
    return jnp.sum(terms, axis=-1)


def softcap(z: Array, c: Any) -> Array:
    """c tanh(z / c)."""
    return c * jnp.tanh(z / c)
