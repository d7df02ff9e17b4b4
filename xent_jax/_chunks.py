"""Tokens in chunks: how many in each, and the one loop over them.

The loop is never unrolled. Without a mask, it reads slices of the arrays and pads nothing: if the
number of tokens is not a multiple of the chunk, the second chunk repeats some tokens of the first,
which then count once. With a mask, each chunk gathers the next tokens that take part, and the loop
ends with the last of them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _checks, _shards

_DEFAULT_BYTES = 128 * 2**20  # of a chunk's logits and their gradient, in float32
_FEWEST, _ENOUGH, _SHARES = 512, 2048, 16  # ``tokens_within`` and ``size_of`` explain them
_PIECE_BYTES, _PIECE_CLASSES = 4 * 2**20, 2048  # a piece of dW in float32 that fits in a cache
LIVE = 2  # arrays of the size of a chunk's logits that are held: the logits and their gradient

Step = Callable[[Any, Any, Array | None], tuple[Any, Any]]


class Chunks(NamedTuple):
    """The division of the tokens into chunks.

    A proof passes one as ``max_logits_bytes``, because its sizes are symbols.
    """

    size: int  # the number of tokens in a chunk
    pieces: int = 1  # a CPU sums the kernel's gradient in this many pieces of the classes
    in_place: bool = False  # whether tokens that are left out stay in their chunks, for proofs


def chunks_for(
    function: str,
    tokens: int,
    width: int,
    classes: int,
    max_logits_bytes: int | Chunks | None,
    masked: bool = False,
) -> Chunks:
    """Returns the chunks for a head of these sizes; each may be a symbol of ``jax.export``."""
    if isinstance(max_logits_bytes, Chunks):
        return max_logits_bytes
    if not isinstance(classes, int):
        return Chunks(size_of(tokens, _FEWEST, masked))
    sums, pieces = (
        (4 * classes * width, _pieces(width, classes)) if isinstance(width, int) else (0, 1)
    )
    what = "logits of one token and their gradient", f" for {classes} classes"
    most = tokens_within(function, 4 * classes, sums, max_logits_bytes, what)
    return Chunks(size_of(tokens, most, masked), pieces)


def tokens_within(
    function: str, row: int, sums: int, max_logits_bytes: int | None, what: tuple[str, str]
) -> int:
    """Returns the most tokens that a chunk may have.

    By default, a chunk's logits and their gradient take 128 MiB. If that is enough for fewer than
    512 tokens, a chunk has 512 to 2048 tokens: as many as have logits no larger than the sums of
    the gradients, which are held anyway. For each chunk, the kernel is read twice, and its gradient
    is read and written once. These are about 12 bytes for each entry of the kernel, for which the
    chunk does 6 floating-point operations per token. On today's accelerators, the arithmetic for
    512 tokens takes about as long as this traffic, and for 2048 tokens several times as long.

    Args:
        function: the public function that was called.
        row: bytes of a token's logits in float32.
        sums: bytes of the gradients in float32 that all chunks share.
        max_logits_bytes: the limit that the user gave.
        what: the texts before and after the number of bytes in the error message.
    """
    row *= LIVE
    if max_logits_bytes is None:
        within = _DEFAULT_BYTES // row
        return within if within >= _FEWEST else max(_FEWEST, min(_ENOUGH, sums // row))
    wanted = f"hold the {what[0]}, {row} bytes{what[1]}, and be an integer"
    limit = _checks.integer(function, "max_logits_bytes", max_logits_bytes, row, math.inf, wanted)
    return limit // row


def size_of(tokens: int, most: int, masked: bool) -> int:
    """Returns the number of tokens in a chunk: at most ``most``, in chunks as even as possible.

    If tokens may be left out, the last chunk that is computed is only partly filled. So there are
    then at least 16 chunks, or chunks of 512 tokens.
    """
    if not isinstance(tokens, int):
        return most
    if masked:
        most = min(most, max(_FEWEST, tokens // _SHARES))
    if tokens <= most:
        return max(tokens, 1)
    fewest = -(-tokens // most)
    for count in range(fewest, 2 * fewest):
        if tokens % count == 0:
            return tokens // count
    return -(-tokens // fewest)


def _pieces(width: int, classes: int) -> int:
    """Returns the number of pieces of the classes in which a CPU sums the kernel's gradient.

    A piece stays in the cache between the product and the sum.
    """
    fewest = min(-(-4 * width * classes // _PIECE_BYTES), classes // _PIECE_CLASSES)
    return next((n for n in range(fewest, 2 * fewest) if n and classes % n == 0), 1)


def over_chunks(
    step: Step,
    carry: Any,
    rows: Any,
    batch: tuple[int, ...],
    chunks: Chunks,
    mask: Array | None,
    keep: Callable[[Any], Any] = lambda body: body,
    early: bool = False,
) -> tuple[Any, Any]:
    """Runs a step over chunks of tokens, as ``lax.scan`` does.

    Args:
        step: ``(carry, rows of a chunk, live) -> (carry, outputs of the chunk)``; the first axis
            of every array is the tokens of the chunk. ``live`` says which tokens count, None
            means all. The others are copies of tokens and must not change the carry.
        carry: the first carry.
        rows: a tree of arrays ``[*batch, ...]``.
        batch: the shape of the tokens.
        chunks: how the tokens are divided.
        mask: booleans ``[*batch]``: the tokens that take part, None for all.
        keep: wraps the body of the loop, such as ``jax.checkpoint``.
        early: whether the loop ends with the last token that takes part. JAX cannot differentiate
            such a loop. Otherwise the remaining chunks do nothing, for which the compiler for GPUs
            copies the carry.

    Returns:
        The last carry, and the outputs, ``[*batch, ...]``, which are 0 where the mask is false.
    """
    tokens, size = math.prod(batch), chunks.size

    def reshaped(tree: Any, rank: int, *leading: int) -> Any:
        return jax.tree.map(lambda a: a.reshape((*leading, *a.shape[rank:])), tree)

    if not (chunks.in_place or tokens == 0 or (mask is None and isinstance(tokens, int))):
        rows, mask = reshaped((rows, mask), len(batch), tokens)
        carry, outs = _gathered(step, carry, rows, mask, tokens, size, keep, early)
        return carry, reshaped(outs, 1, *batch)

    def at_place(carry: Any, rows: Any, fresh: Array | None = None) -> tuple[Any, Any]:
        rows, live = rows
        rows = cleared(rows, live)
        live = fresh if live is None else live if fresh is None else live & fresh
        return step(carry, rows, live)

    if tokens % size:
        rows = reshaped((rows, mask), len(batch), tokens)
        carry, outs = _overlapping(at_place, carry, rows, tokens, size, keep)
        return carry, reshaped(outs, 1, *batch)
    rows = reshaped((rows, mask), len(batch), tokens // size, size)
    carry, outs = lax.scan(keep(at_place), carry, rows)
    return carry, reshaped(outs, 2, *batch)


def _overlapping(step: Step, carry: Any, rows: Any, tokens: int, size: int, keep: Any):
    """Runs the step over chunks of consecutive tokens; the second may repeat some of the first."""
    count = -(-tokens // size)
    extra = count * size - tokens

    def slices(start: Array) -> Any:
        return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), rows)

    def body(state: Any, i: Array) -> tuple[Any, None]:
        carry, outs = state
        start = jnp.maximum(i * size - extra, 0)
        fresh = (i > 0) | (jnp.arange(size) < size - extra)
        carry, new = step(carry, slices(start), fresh)
        # The second chunk overwrites the rows of the first that are not fresh.
        outs = jax.tree.map(lambda a, b: lax.dynamic_update_slice_in_dim(a, b, start, 0), outs, new)
        return (carry, outs), None

    outs = _empty(step, carry, slices(jnp.zeros((), jnp.int32)), jnp.ones(size, bool), tokens)
    return lax.scan(keep(body), (carry, outs), jnp.arange(count))[0]


def _gathered(
    step: Step, carry: Any, rows: Any, mask: Any, tokens: int, size: int, keep: Any, early: bool
) -> tuple[Any, Any]:
    """Runs the step over chunks of the tokens that take part."""
    count = (tokens + size - 1) // size
    mask = jnp.ones(tokens, jnp.bool_) if mask is None else mask
    mask = lax.pad(mask, jnp.zeros((), jnp.bool_), [(0, count * size - tokens, 0)])
    # The places of the tokens that take part come first, then numbers beyond the last place. No
    # number occurs twice.
    places = jnp.arange(count * size, dtype=jnp.int32)
    places = jnp.sort(jnp.where(mask, places, places + count * size))

    def run(state: Any, at: Array) -> Any:
        live = at < tokens
        # The last chunk is filled up with copies of its first token. At zeros, a loss may be
        # infinite or NaN, and 0 times that is NaN in a gradient.
        near = jnp.where(live, at, at[0])
        carry, new = step(state[0], jax.tree.map(lambda a: a[near], rows), live)
        return carry, jax.tree.map(lambda a, b: a.at[at].set(b, **written), state[1], new)

    written: Any = {"mode": "drop", "indices_are_sorted": True, "unique_indices": True}
    first = jax.tree.map(lambda a: a[places[:size]], rows)
    state = carry, _empty(step, carry, first, places[:size] < tokens, tokens)
    if early:
        used = (jnp.sum(mask) + size - 1) // size
        at = functools.partial(lax.dynamic_slice_in_dim, places, slice_size=size)
        return lax.fori_loop(0, used, lambda i, state: run(state, at(i * size)), state)

    def body(state: Any, at: Array) -> tuple[Any, None]:
        return lax.cond(at[0] < tokens, run, lambda state, at: state, state, at), None

    return lax.scan(keep(body), state, places.reshape(count, size))[0]


def _empty(step: Step, carry: Any, rows: Any, live: Array, tokens: int) -> Any:
    """Returns zeros for the outputs of all tokens, from a step's outputs of a chunk."""
    shapes = jax.eval_shape(step, carry, rows, live)[1]

    def empty(s: jax.ShapeDtypeStruct) -> Array:
        return _shards.vary(jnp.zeros((tokens, *s.shape[1:]), s.dtype), _shards.varying(s))

    return jax.tree.map(empty, shapes)


def cleared(values: Any, live: Array | None) -> Any:
    """Returns the tree with zeros in the rows where ``live`` is false."""
    if live is None:
        return values

    def clear(x: Array) -> Array:
        mask = live.reshape(live.shape + (1,) * (x.ndim - 1))
        return jnp.where(mask, x, jnp.zeros((), x.dtype))

    return jax.tree.map(clear, values)
