"""Defines what the textbook's losses share: sums over classes, masks, labels and the reduction.

``over`` has the axes of the classes: the last axis (``LAST``), or the first and the last if there
are m shards of k classes each (``SHARDS``). In shards, logits are ``[m, ..., k]``, and class j of
shard s has the number s k + j.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

Array = Any
Axes = tuple[int, ...]
LAST: Axes = (-1,)
SHARDS: Axes = (0, -1)


def at_label(x: Array, y: Array, over: Axes = LAST) -> Array:
    """Returns ``x[..., y]``, the entry of each label."""
    if over == LAST:
        return jnp.take_along_axis(x, y[..., None], axis=-1, mode="clip")[..., 0]
    shards, k = x.shape[0], x.shape[-1]
    number = jnp.expand_dims(jnp.arange(shards) * k, range(1, x.ndim)) + jnp.arange(k)
    return jnp.sum(jnp.where(number == y[..., None], x, 0.0), axis=over)


def per_class(w: Array, z: Array) -> Array:
    """Returns weights of classes, ``[k]`` or ``[m, k]``, in a shape that multiplies the logits."""
    return w if w.ndim == 1 else jnp.expand_dims(w, range(1, z.ndim - 1))


def weight_of_label(w: Array | None, y: Array, z: Array, over: Axes = LAST) -> Array | None:
    """Returns ``w[y]``, or None if there are no weights of classes."""
    if w is None:
        return None
    return w[y] if over == LAST else at_label(per_class(w, z), y, over)


def parts(where: Array | None, z: Array) -> tuple[Array | None, Array | None]:
    """Returns the masks of classes and of examples; the rank of ``where`` decides which it is."""
    by_class = where is not None and where.ndim == z.ndim
    return (where, None) if by_class else (None, where)


def labeled(y: Array, examples: Array | None, ignore_index: int | None) -> tuple[Array, Any]:
    """Returns labels in range, and the examples that take part."""
    if ignore_index is None:
        return y, examples
    kept = y != ignore_index
    return jnp.where(kept, y, 0), kept if examples is None else examples & kept


def over_classes(x: Array, classes: Array | None = None, over: Axes = LAST) -> Array:
    """Returns the sum over the classes that take part."""
    return jnp.sum(x if classes is None else jnp.where(classes, x, 0.0), axis=over)


def count(z: Array, classes: Array | None, over: Axes = LAST) -> Any:
    """Returns how many classes take part, or 1 if none does."""
    if classes is None:
        return math.prod(z.shape[axis] for axis in over)
    return jnp.maximum(jnp.sum(classes, axis=over), 1)


def exponentials(z: Array, where: Array | None = None) -> Array:
    """Returns ``exp z``, or 0 at masked classes."""
    return jnp.exp(z) if where is None else jnp.where(where, jnp.exp(z), 0.0)


def logsumexp(z: Array, where: Array | None = None, over: Axes = LAST) -> Array:
    """Returns ``log sum_j exp z_j``."""
    return jnp.log(jnp.sum(exponentials(z, where), axis=over))


def softmax(z: Array, where: Array | None = None, over: Axes = LAST) -> Array:
    """Returns ``exp z_j / sum_l exp z_l``."""
    e = exponentials(z, where)
    return e / jnp.sum(e, axis=over, keepdims=True)


def log_softmax(z: Array, where: Array | None = None, over: Axes = LAST) -> Array:
    """Returns ``z_j - log sum_l exp z_l``."""
    return z - logsumexp(z, where, over)[..., None]


def reduced(
    losses: Array,
    examples: Any = None,
    by_label: Any = None,
    *,
    weights: Any = None,
    reduction: str = "none",
) -> Array:
    """Reduces the losses of the examples that take part, each times its weight.

    A mean divides by the weights of the examples and of their labels, if there are any.
    """
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
