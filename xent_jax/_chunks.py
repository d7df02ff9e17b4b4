"""Tokens in chunks: how many in each, and the one loop over them.

The loop is a ``lax.scan``, never unrolled. Where the chunks divide the tokens it scans over
the arrays as they lie. Where they do not, the second chunk goes back over some of the
first one's tokens, which then count once, and nothing is padded or copied. Only where their
number is a symbol (``jax.export``) are the tokens padded to whole chunks.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _checks, _shards

_DEFAULT_BYTES, _FLOOR = 128 * 2**20, 512  # of a chunk's logits and their gradient; tokens
_PIECE_BYTES, _PIECE_CLASSES = 4 * 2**20, 2048  # of the kernel's gradient, float32: in cache
LIVE = 2  # arrays of a chunk's logits that may be held at once: they and their gradient

Step = Callable[[Any, Any, Array | None], tuple[Any, Any]]


class Chunks(NamedTuple):
    """How the work is divided.

    Given as ``max_logits_bytes`` it is taken as it is, whatever the sizes are: in a proof they
    are symbols.
    """

    size: int  # tokens in a chunk
    pieces: int = 1  # of the classes, in which a CPU sums the kernel's gradient


def chunks_for(
    function: str, tokens: int, width: int, classes: int, max_logits_bytes: int | Chunks | None
) -> Chunks:
    """The chunks for a head of these sizes, of which each may be a symbol of ``jax.export``."""
    if isinstance(max_logits_bytes, Chunks):
        return max_logits_bytes
    known = isinstance(classes, int)
    most = _most(function, classes, max_logits_bytes) if known else _FLOOR
    pieces = _pieces(width, classes) if known and isinstance(width, int) else 1
    return Chunks(_even(tokens, most) if isinstance(tokens, int) else most, pieces)


def _most(function: str, classes: int, max_logits_bytes: int | None) -> int:
    """How many tokens of a chunk the budget allows.

    By default it is 128 MiB, but at least 512 tokens: with fewer the kernel is read too often
    for the arithmetic done with it.
    """
    row = LIVE * 4 * classes
    if max_logits_bytes is None:
        return max(_FLOOR, _DEFAULT_BYTES // row)
    wanted = (
        f"hold the logits of one token and their gradient, {row} bytes for {classes} "
        f"classes, and be an integer"
    )
    return (
        _checks.integer(function, "max_logits_bytes", max_logits_bytes, row, math.inf, wanted)
        // row
    )


def _even(tokens: int, most: int) -> int:
    """Tokens in a chunk: at most that many, and as even as can be."""
    if tokens <= most:
        return max(tokens, 1)
    fewest = -(-tokens // most)
    for count in range(fewest, 2 * fewest):
        if tokens % count == 0:
            return tokens // count
    return -(-tokens // fewest)


def _pieces(width: int, classes: int) -> int:
    """In how many pieces, each of as many classes, a CPU sums the kernel's gradient.

    A piece stays in the cache between the product and the sum.
    """
    fewest = min(-(-4 * width * classes // _PIECE_BYTES), classes // _PIECE_CLASSES)
    return next((n for n in range(fewest, 2 * fewest) if n and classes % n == 0), 1)


def over_chunks(
    step: Step, carry: Any, rows: Any, batch: tuple[int, ...], size: int
) -> tuple[Any, Any]:
    """Runs a step over chunks of tokens, as ``lax.scan`` does.

    Args:
        step: ``(carry, rows of a chunk, fresh) -> (carry, outputs of the chunk)``, every
            array with the chunk's tokens first; ``fresh`` says which tokens are met for the
            first time, None for all. The others must leave no trace in the carry.
        carry: its first value.
        rows: a tree of arrays ``[*batch, ...]``.
        batch: the shape of the tokens.
        size: tokens in a chunk, at most their number where that is known.

    Returns:
        The last carry, and the outputs, ``[*batch, ...]``.
    """
    tokens = math.prod(batch)
    if tokens % size == 0:
        return _dividing(step, carry, rows, batch, (tokens // size, size))
    if isinstance(tokens, int):
        return _overlapping(step, carry, rows, batch, tokens, size)
    return _padded(step, carry, rows, batch, tokens, size)


def _dividing(step: Step, carry: Any, rows: Any, batch, grid) -> tuple[Any, Any]:
    rows = jax.tree.map(lambda a: a.reshape(grid + a.shape[len(batch) :]), rows)
    carry, outs = lax.scan(lambda c, r: step(c, r, None), carry, rows)
    return carry, jax.tree.map(lambda a: a.reshape(batch + a.shape[2:]), outs)


def _overlapping(step: Step, carry: Any, rows: Any, batch, tokens: int, size: int):
    rows = jax.tree.map(lambda a: a.reshape((tokens,) + a.shape[len(batch) :]), rows)
    count = -(-tokens // size)
    extra = count * size - tokens

    def slices(start: Array) -> Any:
        return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), rows)

    def body(state: Any, i: Array) -> tuple[Any, None]:
        carry, outs = state
        start = jnp.maximum(i * size - extra, 0)
        fresh = (i > 0) | (jnp.arange(size) < size - extra)
        carry, new = step(carry, slices(start), fresh)
        # The chunk after writes over what is not fresh in the first.
        outs = jax.tree.map(lambda a, b: lax.dynamic_update_slice_in_dim(a, b, start, 0), outs, new)
        return (carry, outs), None

    _, shapes = jax.eval_shape(step, carry, slices(jnp.zeros((), jnp.int32)), jnp.ones(size, bool))

    def empty(s: jax.ShapeDtypeStruct) -> Array:
        return _shards.vary(jnp.zeros((tokens,) + s.shape[1:], s.dtype), _shards.varying(s))

    outs = jax.tree.map(empty, shapes)
    (carry, outs), _ = lax.scan(body, (carry, outs), jnp.arange(count))
    return carry, jax.tree.map(lambda a: a.reshape(batch + a.shape[1:]), outs)


def _padded(step: Step, carry: Any, rows: Any, batch, tokens: int, size: int):
    count = (tokens + size - 1) // size

    def whole_chunks(a: Array) -> Array:
        a = a.reshape((tokens, *a.shape[len(batch) :]))
        a = lax.pad(
            a, jnp.zeros((), a.dtype), [(0, count * size - tokens, 0), *[(0, 0, 0)] * (a.ndim - 1)]
        )
        return a.reshape((count, size, *a.shape[1:]))

    fresh = (jnp.arange(count * size) < tokens).reshape(count, size)
    rows = jax.tree.map(whole_chunks, rows)
    carry, outs = lax.scan(lambda c, r: step(c, *r), carry, (rows, fresh))

    def unpadded(a: Array) -> Array:
        a = a.reshape((count * size, *a.shape[2:]))
        return a[:tokens].reshape(batch + a.shape[1:])

    return carry, jax.tree.map(unpadded, outs)
