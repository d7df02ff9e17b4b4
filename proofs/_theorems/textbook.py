"""Defines the losses as textbooks write them, which the library's functions must equal.

They are plain JAX without custom rules, guards or maxima: unstable in floats, but exact over the
real numbers. Sums leave out masked classes, and masked examples do not count. ``over`` says whether
the classes are in shards, as explained in ``textbook_parts``. The arguments ``**reduction`` are
those of ``reduced``: the weights of examples, and how the losses are reduced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from .textbook_parts import (
    LAST,
    Array,
    Axes,
    at_label,
    count,
    labeled,
    log_softmax,
    logsumexp,
    over_classes,
    parts,
    per_class,
    reduced,
    softmax,
    weight_of_label,
)


def softmax_entropy(z: Array, where: Array | None = None, over: Axes = LAST) -> Array:
    """Returns ``-sum_j p_j log p_j`` over the classes that take part, or 0 if none does."""
    log_p = log_softmax(z, where, over)
    return -over_classes(softmax(z, where, over) * log_p, where, over)


def integer_loss(
    z: Array,
    y: Array,
    *,
    where: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: Any = None,
    z_loss: Any = None,
    class_weights: Array | None = None,
    over: Axes = LAST,
    **reduction: Any,
) -> Array:
    """Returns ``-(1 - e) w_y log p_y - e / k sum_j w_j log p_j + c lse^2``."""
    classes, examples = parts(where, z)
    y, examples = labeled(y, examples, ignore_index)
    lse = logsumexp(z, classes, over)
    own = weight_of_label(class_weights, y, z, over)
    losses = lse - at_label(z, y, over)
    losses = losses if own is None else own * losses
    if label_smoothing is not None:
        every = lse[..., None] - z
        every = every if class_weights is None else per_class(class_weights, z) * every
        mean = over_classes(every, classes, over) / count(z, classes, over)
        losses = (1 - label_smoothing) * losses + label_smoothing * mean
    if z_loss is not None:
        losses = losses + z_loss * lse * lse
    return reduced(losses, examples, own, **reduction)


def label_rank(z: Array, y: Array) -> Array:
    """Returns how many classes have a larger logit than the label, or the same and precede it."""
    own, lower = at_label(z, y)[..., None], jnp.arange(z.shape[-1]) < y[..., None]
    return jnp.sum(jnp.where(z > own, 1, jnp.where((z == own) & lower, 1, 0)), axis=-1)


TOKEN_STATISTICS: dict[str, Callable[[Array, Array], Array]] = {
    "loss": integer_loss,
    "logsumexp": lambda z, _: logsumexp(z),
    "entropy": lambda z, _: softmax_entropy(z),
}


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
    """Returns ``integer_loss`` of ``z = (x W + b) / T``."""
    z = x @ (kernel if kernel_axes == "DV" else kernel.T)
    return integer_loss((z if bias is None else z + bias) / temperature, y, **options)


def soft_loss(
    z: Array,
    t: Array,
    *,
    where: Array | None = None,
    label_smoothing: Any = None,
    z_loss: Any = None,
    class_weights: Array | None = None,
    over: Axes = LAST,
    **reduction: Any,
) -> Array:
    """Returns ``-sum_j w_j t'_j log p_j + c lse^2`` with ``t' = (1 - e) t + e / k``."""
    classes, examples = parts(where, z)
    lse = logsumexp(z, classes, over)
    if label_smoothing is not None:
        k = count(z, classes, over)
        t = (1 - label_smoothing) * t + label_smoothing / (k if classes is None else k[..., None])
    if class_weights is not None:
        t = per_class(class_weights, z) * t
    losses = over_classes(t * (lse[..., None] - z), classes, over)
    if classes is not None:
        examples = jnp.any(classes, axis=over)
    if z_loss is not None:
        losses = losses + z_loss * lse * lse
    return reduced(losses, examples, **reduction)


def softplus(z: Array) -> Array:
    """Returns ``log(1 + exp z)``."""
    return jnp.log(1 + jnp.exp(z))


def binary_loss(
    z: Array,
    t: Array,
    *,
    label_smoothing: Any = None,
    pos_weight: Any = None,
    where: Array | None = None,
    **reduction: Any,
) -> Array:
    """Returns ``-w t log s(z) - (1 - t) log s(-z)``, where s is the sigmoid."""
    if label_smoothing is not None:
        t = (1 - label_smoothing) * t + label_smoothing / 2
    positive = t * softplus(-z) if pos_weight is None else pos_weight * t * softplus(-z)
    return reduced(positive + (1 - t) * softplus(z), where, **reduction)


def binary_focal(z: Array, t: Array, *, gamma: Any, alpha: Any = None) -> Array:
    """Returns ``a_t u^gamma L``, where s is the sigmoid and ``u = t s(-z) + (1 - t) s(z)``."""
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
    over: Axes = LAST,
    **reduction: Any,
) -> Array:
    """Returns ``w_y (1 - p_y)^gamma (-log p_y)``."""
    y, examples = labeled(y, None, ignore_index)
    wrong = 1 - at_label(softmax(z, over=over), y, over)
    losses = jnp.power(wrong, gamma) * (logsumexp(z, over=over) - at_label(z, y, over))
    own = weight_of_label(class_weights, y, z, over)
    return reduced(losses if own is None else own * losses, examples, own, **reduction)


def poly_loss(
    z: Array, t: Array, epsilon: Any, where: Array | None = None, over: Axes = LAST
) -> Array:
    """Returns ``sum_j t_j (-log p_j + epsilon (1 - p_j))``."""
    surprise = logsumexp(z, where, over)[..., None] - z
    terms = t * (surprise + epsilon * (1 - softmax(z, where, over)))
    losses = over_classes(terms, where, over)
    return losses if where is None else jnp.where(jnp.any(where, axis=over), losses, 0.0)


def entropy(p: Array) -> Array:
    """Returns ``-sum_j p_j log p_j``."""
    return -jnp.sum(p * jnp.log(p), axis=-1)


def cross_entropy(p: Array, q: Array) -> Array:
    """Returns ``-sum_j p_j log q_j``."""
    return -jnp.sum(p * jnp.log(q), axis=-1)


def relative_entropy(p: Array, q: Array) -> Array:
    """Returns ``sum_j p_j log(p_j / q_j)``."""
    return jnp.sum(p * jnp.log(p / q), axis=-1)


def kl_divergence(log_q: Array, t: Array, where: Array | None = None) -> Array:
    """Returns ``sum_j t_j (log t_j - l_j)``, where l is ``log_q``."""
    return over_classes(t * (jnp.log(t) - log_q), where)


def kl_divergence_with_log_targets(log_q: Array, log_t: Array) -> Array:
    """Returns ``sum_j exp(u_j) (u_j - l_j)``, where l is ``log_q`` and u is ``log_t``."""
    return jnp.sum(jnp.exp(log_t) * (log_t - log_q), axis=-1)


def generalized_kl_divergence(log_q: Array, t: Array) -> Array:
    """Returns ``sum_j (t_j (log t_j - l_j) + exp(l_j) - t_j)``, where l is ``log_q``."""
    return jnp.sum(t * (jnp.log(t) - log_q) + jnp.exp(log_q) - t, axis=-1)


def softmax_kl(
    z: Array, w: Array, where: Any = None, temperature: Any = 1, over: Axes = LAST, **reduction: Any
) -> Array:
    """Returns ``sum_j p_j (log p_j - log q_j)``, p = softmax(w / T) and q = softmax(z / T)."""
    z, w = z / temperature, w / temperature
    terms = softmax(w, over=over) * (log_softmax(w, over=over) - log_softmax(z, over=over))
    return reduced(over_classes(terms, over=over), where, **reduction)


def softmax_jensen_shannon(z: Array, w: Array, beta: Any = 0.5, over: Axes = LAST) -> Array:
    """Returns ``beta KL(p || m) + (1 - beta) KL(q || m)`` with ``m = beta p + (1 - beta) q``.

    Here p is the softmax of w, and q that of z.
    """
    p, q = softmax(w, over=over), softmax(z, over=over)
    log_m = jnp.log(beta * p + (1 - beta) * q)
    of_p = beta * p * (log_softmax(w, over=over) - log_m)
    of_q = (1 - beta) * q * (log_softmax(z, over=over) - log_m)
    return over_classes(of_p + of_q, over=over)


def softcap(z: Array, c: Any) -> Array:
    """Returns ``c tanh(z / c)``."""
    return c * jnp.tanh(z / c)
