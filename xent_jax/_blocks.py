"""The sum of a row's exponentials but the label's, for its value alone, as XLA:CPU fuses it.

``_rows`` has the same sum for the value with its gradient. The two differ for speed: in
``benchmarks/logits.py`` the value alone takes 1.1 to 1.3 of optax's time here, and would take up
to 3, with an array of the size of the logits, there; with the gradient it is the other way.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _shards


def marked(i: Array, size: int) -> Array:
    """[..., size] booleans, true at the index i."""
    # One row of indices, broadcast: a [..., size] iota would be hoisted out of a caller's
    # loop into memory.
    return lax.broadcasted_iota(i.dtype, (1,) * i.ndim + (size,), i.ndim) == i[..., None]


def others_in_blocks(z: Array, block: Array, place: Array, m: Array, c: Array) -> Array:
    """The sum of the exponentials relative to c of all classes but the label's.

    XLA:CPU fuses a sum over the classes with the arithmetic before it, but with no comparison or
    select. So the label's logit is lowered to -inf by a minimum with limits that are m
    elsewhere. Each limit is the larger of two, one of its block and one of its place in a block,
    which are -inf for the label's block and for its place.

    Args:
        z: the logits in blocks, ``[..., blocks, width]``.
        block, place: ``[...]``, which of each the label's is.
        m, c: ``[...]``, the row's largest logit and its origin.
    """
    lowest = jnp.asarray(-jnp.inf, m.dtype)
    by_block = jnp.where(marked(block, z.shape[-2]), lowest, m[..., None])
    by_place = jnp.where(marked(place, z.shape[-1]), lowest, m[..., None])
    limit = jnp.maximum(by_block[..., :, None], by_place[..., None, :])
    return jnp.sum(jnp.exp(jnp.minimum(z, limit) - c[..., None, None]), axis=(-2, -1))


def block_width(z: Array) -> int | None:
    """How many classes are in a block of ``others_in_blocks``; None where it is not the faster.

    That is for few classes, and for half precision, of which XLA:CPU is slow to sum exponentials.
    A mesh that divides the classes divides them into a power of two, most likely, by which the
    number of blocks should be divisible too.
    """
    k = z.shape[-1]
    divided = _shards.explicit(z)[-1] is not None
    if not isinstance(k, int) or k < 512 or divided or z.dtype.itemsize < 4:
        return None
    widths = [w for w in range(24, min(2048, k // 8) + 1) if k % w == 0]
    return max(widths, key=lambda w: (math.gcd(k // w, 64), -abs(w - 128)), default=None)


def row_by_row(function: Callable[..., Array], *arrays: Array) -> Array:
    """``function(*arrays)``, whose row i depends on row i of each array alone.

    XLA:CPU writes to memory what is compared before a sum, or read by several sums: an array of
    the size of the logits ``[n, k]``. Taken row by row it is one of the size of a row.
    """
    if arrays[0].ndim != 2 or any(set(_shards.explicit(a)) != {None} for a in arrays):
        return function(*arrays)

    def by_row(*arrays: Array) -> Array:
        return lax.map(lambda row: function(*row), arrays)

    return lax.platform_dependent(*arrays, cpu=by_row, default=function)
