"""From the losses of the examples to what the caller asked for, in plain JAX."""

import math

import jax.numpy as jnp
from jax import Array

from xent_jax import _shards
from xent_jax._rows import poisoned
from xent_jax._types import AxisName, Reduction
from xent_jax._zero import product


def reduce(
    losses: Array,
    reduction: Reduction,
    examples: Array | None,
    by_label: Array | None = None,
    axis_name: AxisName | None = None,
    weights: Array | None = None,
) -> Array:
    """None, sum or mean of the losses of the examples left in; the others count nothing.

    Each loss is multiplied by its weight, if there are ``weights``. A mean is over the sum of the
    weights, of those ``by_label``, of their products, or over the number of the examples.
    ``axis_name`` is that of the examples: sum and mean are over all its shards.
    """
    losses, examples, by_label, weights = _shards.together(losses, examples, by_label, weights)
    zero = jnp.zeros((), losses.dtype)
    if weights is not None:
        weights = valid(weights, losses.dtype)
        if examples is not None:
            weights = jnp.where(examples, weights, zero)
        losses = product(weights, losses)
    if examples is not None:
        losses = jnp.where(examples, losses, zero)
    if reduction == "none":
        return losses
    total = _shards.total(jnp.sum(losses), axis_name)
    if reduction == "sum":
        return total
    return total / divisor(losses.shape, losses.dtype, examples, by_label, axis_name, weights)


def valid(weights: Array, dtype) -> Array:
    """The weights of examples in a dtype, NaN for those that are not at least 0."""
    return poisoned(weights.astype(dtype), weights >= 0)


def divisor(
    batch: tuple[int, ...],
    dtype,
    examples: Array | None,
    by_label: Array | None = None,
    axis_name: AxisName | None = None,
    weights: Array | None = None,
) -> Array:
    """What a mean divides by: the number of examples left in, or the sum of their weights.

    It is 1 where no example is left in or all their ``weights`` are 0, so that the mean is 0.
    """
    if examples is None:
        examples = jnp.ones(batch, jnp.bool_)
    count = _shards.total(jnp.sum(examples), axis_name)
    factors = [w.astype(dtype) for w in (by_label, weights) if w is not None]
    if not factors:
        return jnp.maximum(count, 1).astype(dtype)
    weight = math.prod(factors[1:], start=factors[0])
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    # The weight of a label out of range is NaN: its own row is NaN by it, and no other may be.
    weight = jnp.where(examples, jnp.where(jnp.isnan(weight), one, weight), zero)
    total = _shards.total(jnp.sum(weight), axis_name)
    return jnp.where(count == 0 if weights is None else total == 0, one, total)
