"""From the losses of the examples to what the caller asked for, in plain JAX."""

import math

import jax.numpy as jnp
from jax import Array

from xent_jax import _shards
from xent_jax._rows import poisoned
from xent_jax._shards import WHOLE, Shards
from xent_jax._types import Reduction
from xent_jax._zero import product


def reduce(
    losses: Array,
    reduction: Reduction,
    examples: Array | None,
    by_label: Array | None = None,
    shards: Shards = WHOLE,
    weights: Array | None = None,
) -> Array:
    """Returns the losses, or their sum or mean over the examples that take part.

    Each loss is multiplied by its weight, if there are ``weights``. A mean is over the sum of the
    weights, of those ``by_label``, of their products, or over the number of the examples.
    ``shards`` are those of the examples: sum and mean are over all of them.
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
    total = shards.psum(jnp.sum(losses))
    if reduction == "sum":
        return total
    return total / divisor(losses.shape, losses.dtype, examples, by_label, shards, weights)


def valid(weights: Array, dtype) -> Array:
    """Returns weights in a dtype; NaN for a weight that is negative or NaN."""
    return poisoned(weights.astype(dtype), weights >= 0)


def divisor(
    batch: tuple[int, ...],
    dtype,
    examples: Array | None,
    by_label: Array | None = None,
    shards: Shards = WHOLE,
    weights: Array | None = None,
) -> Array:
    """Returns what a mean divides by: the number of examples that take part, or their weights' sum.

    It is 1 where no example is left in or all their ``weights`` are 0, so that the mean is 0.
    """
    if examples is None:
        examples = jnp.ones(batch, jnp.bool_)
    count = shards.psum(jnp.sum(examples))
    factors = [w.astype(dtype) for w in (by_label, weights) if w is not None]
    if not factors:
        return jnp.maximum(count, 1).astype(dtype)
    weight = math.prod(factors[1:], start=factors[0])
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    # The weight of a label out of range is NaN, which poisons that row and must not reach others.
    weight = jnp.where(examples, jnp.where(jnp.isnan(weight), one, weight), zero)
    total = shards.psum(jnp.sum(weight))
    return jnp.where(count == 0 if weights is None else total == 0, one, total)
