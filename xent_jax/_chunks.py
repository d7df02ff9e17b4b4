"""Tokens in chunks: how many in each, and the one loop over them.

The loop is a ``lax.scan``, never unrolled. Where the chunks divide the tokens it scans over
the arrays as they lie. Where they do not, the second chunk goes back over some of the
first one's tokens, which then count once, and nothing is padded or copied.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _checks, _shards

_DEFAULT_BYTES, _FLOOR = 128 * 2**20, 512  # of a chunk's logits and their gradient; tokens
_PIECE_BYTES, _PIECE_CLASSES = 4 * 2**20, 2048  # of the kernel's gradient, float32: in cache
LIVE = 2  # arrays of a chunk's logits that may be held at once: they and their gradient

_pinned: contextvars.ContextVar[tuple[int, int] | None] = contextvars.ContextVar(
    "tokens in a chunk, pieces", default=None
)
Step = Callable[[Any, Any, Array | None], tuple[Any, Any]]


def pinned() -> bool:
    """Whether ``chunks_of`` holds."""
    return _pinned.get() is not None


def chunk_size(function: str, tokens: int, classes: int, max_logits_bytes: int | None) -> int:
    """Tokens in a chunk: few enough for the budget, and as even as can be.

    By default 128 MiB, but at least 512 tokens: with fewer the kernel is read too often for
    the arithmetic done with it.
    """
    fixed = _pinned.get()
    if fixed is not None:
        return fixed[0]
    row = LIVE * 4 * classes
    if max_logits_bytes is None:
        most = max(_FLOOR, _DEFAULT_BYTES // row)
    else:
        wanted = (
            f"hold the logits of one token and their gradient, {row} bytes for {classes} "
            f"classes, and be an integer"
        )
        given = _checks.integer(
            function, "max_logits_bytes", max_logits_bytes, row, math.inf, wanted
        )
        most = given // row
    if tokens <= most:
        return max(tokens, 1)
    fewest = -(-tokens // most)
    for count in range(fewest, 2 * fewest):
        if tokens % count == 0:
            return tokens // count
    return -(-tokens // fewest)


def pieces_of(width: int, classes: int) -> int:
    """In how many pieces, each of as many classes, a CPU sums the kernel's gradient.

    A piece stays in the cache between the product and the sum.
    """
    fixed = _pinned.get()
    if fixed is not None:
        return fixed[1]
    fewest = min(-(-4 * width * classes // _PIECE_BYTES), classes // _PIECE_CLASSES)
    return next((n for n in range(fewest, 2 * fewest) if n and classes % n == 0), 1)


@contextlib.contextmanager
def chunks_of(size: int, pieces: int = 1) -> Iterator[None]:
    """Chunks of that many tokens whatever the sizes, which in a proof are symbols."""
    token = _pinned.set((size, pieces))
    try:
        yield
    finally:
        _pinned.reset(token)


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
        size: tokens in a chunk, at most their number.

    Returns:
        The last carry, and the outputs, ``[*batch, ...]``.
    """
    tokens = math.prod(batch)
    if tokens % size == 0:
        return _dividing(step, carry, rows, batch, (tokens // size, size))
    return _overlapping(step, carry, rows, batch, tokens, size)


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
