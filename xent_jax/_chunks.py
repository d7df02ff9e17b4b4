"""Tokens in chunks: how many in each, and the one loop over them.

The loop is a ``lax.scan``, never unrolled. Without a mask it reads the arrays as they are: where
the chunks do not divide the tokens, the second chunk repeats some tokens of the first, which then
count once, and nothing is padded or copied. With a mask each chunk gathers the next tokens that
take part, and the chunks that remain when there are no more do nothing.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _checks, _shards

_DEFAULT_BYTES = 128 * 2**20  # of a chunk's logits and their gradient, in float32
_FEWEST, _ENOUGH = 512, 2048  # tokens of a chunk: see ``_most``
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
    in_place: bool = False  # whether tokens that are out stay in their chunks, as proofs read it


def chunks_for(
    function: str, tokens: int, width: int, classes: int, max_logits_bytes: int | Chunks | None
) -> Chunks:
    """Returns the chunks for a head of these sizes; each may be a symbol of ``jax.export``."""
    if isinstance(max_logits_bytes, Chunks):
        return max_logits_bytes
    known = isinstance(classes, int) and isinstance(width, int)
    row = 4 * classes if isinstance(classes, int) else None
    sums = 4 * classes * width if known else 0
    most = _FEWEST if row is None else tokens_within(function, row, sums, max_logits_bytes)
    return Chunks(even(tokens, most), _pieces(width, classes) if known else 1)


def tokens_within(function: str, row: int, sums: int, max_logits_bytes: int | None) -> int:
    """Returns the most tokens that a chunk may have.

    By default a chunk's logits and their gradient take 128 MiB, or as much as the sums of the
    gradients that all chunks share if that is more. For each chunk the kernel is read twice and
    its gradient is read and written once, some 12 bytes for 6 floating-point operations of each
    token: with 512 tokens the arithmetic takes about as long as that on accelerators of today,
    and with 2048 the traffic is a small part, so a chunk has no fewer than 512 tokens and needs
    no more than 2048.

    Args:
        function: the public function that was called.
        row: bytes of a token's logits in float32.
        sums: bytes of the gradients in float32 that all chunks share.
        max_logits_bytes: the limit that the user gave.
    """
    row *= LIVE
    if max_logits_bytes is None:
        return max(_FEWEST, _DEFAULT_BYTES // row, min(_ENOUGH, sums // row))
    wanted = f"hold the logits of one token and their gradient, {row} bytes, and be an integer"
    limit = _checks.integer(function, "max_logits_bytes", max_logits_bytes, row, math.inf, wanted)
    return limit // row


def even(tokens: int, most: int) -> int:
    """Returns the tokens in a chunk: at most ``most``, in chunks as even as can be."""
    if not isinstance(tokens, int):
        return most
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
) -> tuple[Any, Any]:
    """Runs a step over chunks of tokens, as ``lax.scan`` does.

    Args:
        step: ``(carry, rows of a chunk, live) -> (carry, outputs of the chunk)``, where every
            array has the chunk's tokens first. ``live`` says which tokens count, None for all.
            The others are copies of tokens, and must leave no trace in the carry.
        carry: its first value.
        rows: a tree of arrays ``[*batch, ...]``.
        batch: the shape of the tokens.
        chunks: how the tokens are divided.
        mask: booleans ``[*batch]``: the tokens that take part, None for all.
        keep: wraps the body of the loop, such as ``jax.checkpoint``.

    Returns:
        The last carry, and the outputs, ``[*batch, ...]``, which are 0 where the mask is false.
    """
    tokens, size = math.prod(batch), chunks.size

    def reshaped(tree: Any, rank: int, *leading: int) -> Any:
        return jax.tree.map(lambda a: a.reshape((*leading, *a.shape[rank:])), tree)

    if not (chunks.in_place or tokens == 0 or (mask is None and isinstance(tokens, int))):
        rows, mask = reshaped((rows, mask), len(batch), tokens)
        carry, outs = _gathered(step, carry, rows, mask, tokens, size, keep)
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
    """Runs the step over chunks of neighbours, of which the second repeats some of the first."""
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

    outs = _empty(step, carry, slices(jnp.zeros((), jnp.int32)), jnp.ones(size, bool), tokens)
    return lax.scan(keep(body), (carry, outs), jnp.arange(count))[0]


def _gathered(step: Step, carry: Any, rows: Any, mask: Any, tokens: int, size: int, keep: Any):
    """Runs the step over chunks of the tokens that take part; no more chunks than these fill."""
    count = (tokens + size - 1) // size
    mask = jnp.ones(tokens, jnp.bool_) if mask is None else mask
    mask = lax.pad(mask, jnp.zeros((), jnp.bool_), [(0, count * size - tokens, 0)])
    # The places of the tokens that take part, then numbers beyond the last place; none twice.
    places = jnp.arange(count * size, dtype=jnp.int32)
    places = jnp.sort(jnp.where(mask, places, places + count * size))

    def body(state: Any, at: Array) -> tuple[Any, None]:
        def run(state: Any) -> Any:
            live = at < tokens
            # What fills up the last chunk is its first token, not zeros: a loss may be infinite
            # or NaN at those, and in a gradient 0 times that is NaN.
            near = jnp.where(live, at, at[0])
            carry, new = step(state[0], jax.tree.map(lambda a: a[near], rows), live)
            outs = jax.tree.map(lambda a, b: a.at[at].set(b, **written), state[1], new)
            return carry, outs

        return lax.cond(at[0] < tokens, run, lambda state: state, state), None

    written: Any = {"mode": "drop", "indices_are_sorted": True, "unique_indices": True}
    first = jax.tree.map(lambda a: a[places[:size]], rows)
    outs = _empty(step, carry, first, places[:size] < tokens, tokens)
    return lax.scan(keep(body), (carry, outs), places.reshape(count, size))[0]


def _empty(step: Step, carry: Any, rows: Any, live: Array, tokens: int) -> Any:
    """Returns zeros for the outputs of all tokens, of which a step gives those of a chunk."""
    shapes = jax.eval_shape(step, carry, rows, live)[1]

    def empty(s: jax.ShapeDtypeStruct) -> Array:
        return _shards.vary(jnp.zeros((tokens, *s.shape[1:]), s.dtype), _shards.varying(s))

    return jax.tree.map(empty, shapes)


def cleared(values: Any, live: Array | None) -> Any:
    """The arrays of a tree, 0 in the rows where ``live`` is false."""
    if live is None:
        return values

    def clear(x: Array) -> Array:
        mask = live.reshape(live.shape + (1,) * (x.ndim - 1))
        return jnp.where(mask, x, jnp.zeros((), x.dtype))

    return jax.tree.map(clear, values)
