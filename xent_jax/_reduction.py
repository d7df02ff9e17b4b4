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
    if examples is None:
        examples = jnp.ones(losses.shape, jnp.bool_)
    count = jnp.sum(examples)
    if weights is None:
        return total / jnp.maximum(count, 1).astype(losses.dtype)
    zero, one = jnp.zeros((), losses.dtype), jnp.ones((), losses.dtype)
    weight = jnp.sum(jnp.where(examples, weights.astype(losses.dtype), zero))
    return total / jnp.where(count > 0, weight, one)
