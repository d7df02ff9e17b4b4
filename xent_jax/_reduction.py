"""From the losses of the examples to what the caller asked for, in plain JAX."""

import jax.numpy as jnp
from jax import Array

from xent_jax._types import Reduction


def reduce(
    losses: Array, reduction: Reduction, examples: Array | None, weights: Array | None = None
) -> Array:
    """None, sum or mean of the losses of the examples left in; the others count nothing.

    ``weights`` are the mean's divisor, one for each example, in place of their number.
    """
    if examples is not None:
        losses = jnp.where(examples, losses, jnp.zeros((), losses.dtype))
    if reduction == "none":
        return losses
    total = jnp.sum(losses)
    if reduction == "sum":
        return total
    return total / divisor(losses.shape, losses.dtype, examples, weights)


def divisor(
    batch: tuple[int, ...], dtype, examples: Array | None, weights: Array | None = None
) -> Array:
    """What a mean divides by: the number of examples left in, or the sum of their weights."""
    if examples is None:
        examples = jnp.ones(batch, jnp.bool_)
    count = jnp.sum(examples)
    if weights is None:
        return jnp.maximum(count, 1).astype(dtype)
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    weight = jnp.sum(jnp.where(examples, weights.astype(dtype), zero))
    return jnp.where(count > 0, weight, one)
