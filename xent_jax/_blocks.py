"""The sum of a row's exponentials without the label's, in a form that XLA:CPU fuses.

This form is for the value alone. ``_rows`` has the same sum for the value with its gradient. The
two differ for speed: in ``benchmarks/logits.py``, the value alone takes 1.1 to 1.3 times as long as
optax's with the form of this file. With that of ``_rows`` it would take up to 3 times as long and
need an array of the size of the logits. With the gradient it is the other way around.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _shards


def marked(i: Array, size: int) -> Array:
    """Returns booleans ``[..., size]`` that are true at the index i."""
    # The iota is one row that broadcasts: XLA would hoist a [..., size] iota out of a caller's loop
    # and hold it in memory.
    return lax.broadcasted_iota(i.dtype, (1,) * i.ndim + (size,), i.ndim) == i[..., None]


def others_in_blocks(z: Array, block: Array, place: Array, m: Array, c: Array) -> Array:
    """Returns ``sum exp(z_j - c)`` over all classes j but the label's, ``[...]``.

    XLA:CPU fuses a sum over the classes with the arithmetic before it, but not with a comparison or
    a select. So the label's logit is lowered to -inf by a minimum with a limit, which is m at the
    other classes. Each limit is the larger of a limit of its block and a limit of its place in the
    block, and these two are -inf for the label's block and for its place.

    Args:
        z: the logits in blocks, ``[..., blocks, width]``.
        block, place: ``[...]``, the block of the label and its place in the block.
        m, c: ``[...]``, the row's largest logit and its origin.
    """
    lowest = jnp.asarray(-jnp.inf, m.dtype)
    by_block = jnp.where(marked(block, z.shape[-2]), lowest, m[..., None])
    by_place = jnp.where(marked(place, z.shape[-1]), lowest, m[..., None])
    limit = jnp.maximum(by_block[..., :, None], by_place[..., None, :])
    return jnp.sum(lax.exp(jnp.minimum(z, limit) - c[..., None, None]), axis=(-2, -1))


def block_width(z: Array) -> int | None:
    """Returns the number of classes in a block for ``others_in_blocks``, or None.

    None means that the blocks are not faster: for few classes, and for half precision, whose
    exponentials XLA:CPU is slow to sum. A mesh most likely shards the classes into a power of two,
    so a number of blocks that a power of two divides is preferred.
    """
    k = z.shape[-1]
    divided = _shards.explicit(z)[-1] is not None
    if not isinstance(k, int) or k < 512 or divided or z.dtype.itemsize < 4:
        return None
    widths = [w for w in range(24, min(2048, k // 8) + 1) if k % w == 0]
    return max(widths, key=lambda w: (math.gcd(k // w, 64), -abs(w - 128)), default=None)


def row_by_row(function: Callable[..., Array], *arrays: Array) -> Array:
    """Returns ``function(*arrays)``; its row i must depend only on row i of each array.

    XLA:CPU holds in memory what is compared before a sum, or what several sums read: an array of
    the size of the logits ``[n, k]``. Computed row by row, it has the size of one row.
    """
    if arrays[0].ndim != 2 or any(set(_shards.explicit(a)) != {None} for a in arrays):
        return function(*arrays)

    def by_row(*arrays: Array) -> Array:
        return lax.map(lambda row: function(*row), arrays)

    return lax.platform_dependent(*arrays, cpu=by_row, default=function)
