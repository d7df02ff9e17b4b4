"""From the losses of the examples to what the caller asked for, in plain JAX."""

import jax.numpy as jnp
from jax import Array

from xent_jax import _shards
from xent_jax._types import AxisName, Reduction


def reduce(
    losses: Array,
    reduction: Reduction,
    examples: Array | None,
    weights: Array | None = None,
    axis_name: AxisName | None = None,
) -> Array:
    """None, sum or mean of the losses of the examples left in; the others count nothing.

    ``weights`` are the mean's divisor, one for each example, in place of their number.
    ``axis_name`` is that of the examples: sum and mean are over all its shards.
    """
    losses, examples, weights = _shards.together(losses, examples, weights)
    if examples is not None:
        losses = jnp.where(examples, losses, jnp.zeros((), losses.dtype))
    if reduction == "none":
        return losses
    total = _shards.total(jnp.sum(losses), axis_name)
    if reduction == "sum":
        return total
    return total / divisor(losses.shape, losses.dtype, examples, weights, axis_name)


def divisor(
    batch: tuple[int, ...],
    dtype,
    examples: Array | None,
    weights: Array | None = None,
    axis_name: AxisName | None = None,
) -> Array:
    """What a mean divides by: the number of examples left in, or the sum of their weights."""
    if examples is None:
        examples = jnp.ones(batch, jnp.bool_)
    count = _shards.total(jnp.sum(examples), axis_name)
    if weights is None:
        return jnp.maximum(count, 1).astype(dtype)
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    # A label out of range has the weight NaN: its own row is NaN by it, and no other may be.
    weights = jnp.where(jnp.isnan(weights), one, weights.astype(dtype))
    weight = jnp.sum(jnp.where(examples, weights, zero))
    return jnp.where(count > 0, _shards.total(weight, axis_name), one)
