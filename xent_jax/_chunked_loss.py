"""Any loss of parameters and tokens, one chunk of tokens at a time: see ``_engine``."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr

from xent_jax import _checks, _engine, _loss_function, _shards
from xent_jax._chunks import Chunks, size_of, tokens_within
from xent_jax._engine import Engine
from xent_jax._hashable import compiled, key_of
from xent_jax._modes import Mode, explained, in_both_modes, in_mode
from xent_jax._operands import Operands, Wanted, added, vjp_of
from xent_jax._shards import WHOLE, Shards
from xent_jax._types import AxisName, Reduction, accumulator


@in_both_modes
def chunked_loss(
    mode: Mode,
    loss: Callable[..., Any],
    *,
    reduction: Reduction = "mean",
    has_aux: bool = False,
    max_logits_bytes: int | None = None,
    batch_axis_name: AxisName | None = None,
) -> Callable[..., Any]:
    """Turns a loss of parameters and tokens into one that computes a chunk of tokens at a time.

    Use it if the logits come from a function and not from one kernel: from a norm before the
    product, a LoRA adapter, dropout, or a multiplier. It never holds the logits of all tokens.
    With a sum or mean, the gradients are computed in the forward pass, so that nothing is computed
    twice; ``jax.checkpoint`` inside ``jax.lax.scan`` would compute the logits again. For one
    kernel, ``with_linear_head`` does the same and is faster on a CPU.

    Args:
        loss: ``(params, *arrays) -> [tokens]``, the loss of each token of a chunk. It must not
            depend on other tokens. Arrays that it closes over get their gradients too.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the tokens that take part. With
            weights, a mean divides by their sum, and is 0 if that is 0.
        has_aux: whether ``loss`` returns ``(losses, aux)``, where ``aux`` is a tree of arrays
            ``[tokens, ...]`` without gradient. The function then returns ``(value, aux)``.
        max_logits_bytes: the bytes that the largest array of a chunk and its gradient may take.
            The default is 128 MiB. If that is enough for fewer than 512 tokens, a chunk has 512 to
            2048 tokens: as many as need no more than the parameters in float32.
        batch_axis_name: inside ``jax.shard_map``, the mesh axes over which the tokens are
            sharded; a sum or mean is then over all shards.

    Returns:
        ``f(params, *arrays, where=None, weights=None)``. It takes a tree of parameters, trees of
        arrays ``[tokens, ...]``, ``where``, booleans that broadcast to ``[tokens]`` for the tokens
        that take part, and ``weights``, floats that broadcast to ``[tokens]``, at least 0, which
        multiply the losses. The value is ``[tokens]`` or a scalar, in the dtype of the losses; a
        sum or mean is at least float32. Tokens that ``where`` or a weight of 0 leaves out are not
        computed, and their losses and auxiliaries are 0.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: that of the reduction of ``loss`` over all tokens, to parameters, arrays and weights
    in their dtypes; gradients of arrays that all tokens share are summed in float32. The theorem
    is about the loop, which is also that of the linear head; the derivative of ``loss`` itself is
    JAX's. Proof: ``with_linear_head``. Source: as ``with_linear_head``.

    This example has a norm before the kernel, and the labels as the second array:

    >>> from xent_jax import softmax_cross_entropy_with_integer_labels
    >>> def loss(params, x, labels):
    ...     x = x * params["scale"] / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
    ...     logits = x @ params["kernel"]
    ...     return softmax_cross_entropy_with_integer_labels(logits, labels)
    >>> params = {"scale": jnp.ones(8), "kernel": jnp.zeros((8, 100))}
    >>> mean_loss = chunked_loss(loss)
    >>> round(float(mean_loss(params, jnp.ones((6, 8)), jnp.arange(6))), 4)
    4.6052
    """
    name = "chunked_loss"
    if not callable(loss):
        raise TypeError(
            f"{name}: loss must be a function of parameters and arrays, got {_checks.shown(loss)}."
        )
    if not isinstance(has_aux, bool):
        raise TypeError(f"{name}: has_aux must be True or False, got {_checks.shown(has_aux)}.")
    reduction = _checks.reduction(name, reduction)
    batch_shards = _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    options = _Options(mode, reduction, has_aux, max_logits_bytes, batch_shards)
    return functools.partial(_checked_call, in_mode(mode, loss), options)


class _Options(NamedTuple):
    """The checked options of ``chunked_loss``, except the limit of bytes."""

    mode: Mode
    reduction: Reduction
    has_aux: bool
    max_logits_bytes: int | None
    batch_shards: Shards


def _checked_call(
    loss: Callable[..., Any],
    options: _Options,
    /,
    params: Any,
    *arrays: Any,
    where: Any = None,
    weights: Any = None,
    **others: Any,
) -> Any:
    """Checks the arguments of a call, and returns the value, with ``has_aux`` also the aux."""
    name = "chunked_loss"
    if others:
        raise TypeError(
            f"{name}: the function takes params, arrays, where and weights, got "
            f"{', '.join(others)}. Give an option of the loss to the loss: "
            f"chunked_loss(functools.partial(loss, {next(iter(others))}=...))."
        )
    params = jax.tree.map(functools.partial(_checks.array, name, "params"), params)
    arrays = jax.tree.map(functools.partial(_checks.array, name, "arrays"), arrays)
    shapes = {a.shape[:1] for a in jax.tree.leaves(arrays)}
    if len(shapes) != 1 or shapes == {()}:
        got = ", ".join(map(_checks.describe, jax.tree.leaves(arrays))) or "none"
        raise ValueError(
            f"{name}: arrays must have one entry for each token along their first axis, got {got}. "
            f"Give [batch, length, ...] as x.reshape(-1, *x.shape[2:])."
        )
    ((tokens,),) = shapes
    if where is not None:
        where = _checks.mask(name, "where", where)
        where = _checks.broadcastable(name, "where", where, (tokens,), "the tokens")
        where = jnp.broadcast_to(where, (tokens,))
    if weights is not None:
        weights = jnp.broadcast_to(_checks.weights(name, weights, (tokens,)), (tokens,))
    with explained():
        run = compiled(_reduced, _compiled, loss, lambda: key_of(loss))
        value, aux = run(options, params, arrays, where, weights)
        return (value, aux) if options.has_aux else value


def _reduced(
    loss: Any, options: _Options, params: Any, arrays: Any, mask: Any, weights: Any
) -> tuple[Array, Any]:
    name, weighted = "chunked_loss", weights is not None
    of_tokens = _shards.varying(arrays, mask, weights)
    params, rows = _shards.vary((params, (arrays, weights)), of_tokens)
    mask = _shards.vary(mask, of_tokens)
    shared, tree = jax.tree.flatten(params)
    rows, tree_of_rows = jax.tree.flatten(rows)

    def of_chunk(size: int) -> list[jax.ShapeDtypeStruct]:
        return [_shards.shape_of((size, *a.shape[1:]), a.dtype, _shards.varying(a)) for a in rows]

    def flat(shared: Any, *rows: Array) -> tuple[Array, Any]:
        arrays, weights = jax.tree.unflatten(tree_of_rows, rows)
        found = loss(jax.tree.unflatten(tree, shared), *arrays)
        if options.has_aux and (not isinstance(found, tuple) or len(found) != 2):
            raise TypeError(
                f"{name}: loss must give a pair (losses, aux) with has_aux=True, got "
                f"{_checks.shown(found)}."
            )
        losses, aux = found if options.has_aux else (found, ())
        size = rows[0].shape[0]
        _loss_function.check_losses(name, f"a chunk of {size} tokens", size, losses, aux)
        if not jnp.issubdtype(losses.dtype, jnp.floating):
            got = _checks.describe(losses)
            raise TypeError(f"{name}: loss must give floating-point numbers, got {got}.")
        return _loss_function.weighed((losses, aux), weights)

    like = [_shards.shape_of(a.shape, a.dtype, _shards.varying(a)) for a in shared]
    row = _bytes_of_a_token(lambda *rows: flat(shared, *rows), of_chunk)
    sums = sum(4 * a.size for a in shared)
    what = "largest array of one token and its gradient", ""
    most = tokens_within(name, row, sums, options.max_logits_bytes, what)
    size = size_of(rows[0].shape[0], most, weighted or mask is not None)
    of, closed_over = _loss_function.hoisted(flat, tuple(like), *of_chunk(size))
    dtype = jax.eval_shape(of, closed_over, tuple(like), *of_chunk(size))[0].dtype
    engine = Engine(
        TokenLoss(of, len(closed_over)), options.mode, rows[0].shape[:1], Chunks(size), weighted
    )
    operands = Operands((*closed_over, *shared), tuple(rows))
    return _engine.reduced(
        engine, operands, mask, options.reduction, accumulator(dtype), None, options.batch_shards
    )


_compiled = jax.jit(_reduced, static_argnums=(0, 1))


class TokenLoss(NamedTuple):
    """A ``Work`` (see ``_engine``) of any function.

    Its shared operands are the arrays that the function closes over, then the parameters.
    """

    loss: Callable[..., tuple[Any, Any]]  # (closed_over, params, *rows)
    closed_over: int  # the number of arrays that the function closes over
    dtype: Any = jnp.dtype("float32")  # it computes no products itself
    shards: Shards = WHOLE

    def then(self, function: Callable[[Any], Any]) -> "TokenLoss":
        """Returns the same with a function of the losses."""

        def loss(*args: Any) -> tuple[Any, Any]:
            losses, aux = self.loss(*args)
            return function(losses), aux

        return self._replace(loss=loss)

    def value(self, shared: tuple, rows: tuple) -> tuple[Any, Any]:
        """Returns the losses and auxiliaries of a chunk."""
        return self.loss(shared[: self.closed_over], shared[self.closed_over :], *rows)

    def gradients(
        self, wanted: Wanted, shared: tuple, rows: tuple, cotangents: Any, sums: tuple
    ) -> tuple[tuple[Any, Any], tuple, tuple]:
        """Returns the value, the sums with the gradients of this chunk, and those of its rows."""
        losses, pull, aux = vjp_of(self.value, wanted, shared, rows)
        d_shared, d_rows = pull(cotangents(losses))
        return (losses, aux), added(sums, d_shared), d_rows


def _bytes_of_a_token(function: Callable[..., Any], of_chunk: Callable[[int], Any]) -> int:
    """Returns the bytes for each token in the largest array that is computed."""
    few, many = 64, 128
    sizes = [list(_bytes(jax.make_jaxpr(function)(*of_chunk(n)).jaxpr)) for n in (few, many)]
    grown = [b - a for a, b in zip(*sizes, strict=False)]
    return max(1, *(g // (many - few) for g in grown))


def _bytes(jaxpr: Any) -> Iterator[int]:
    """Yields the bytes of each array that a program computes."""
    for eqn in jaxpr.eqns:
        for leaf in jax.tree.leaves(
            eqn.params, is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)
        ):
            if isinstance(leaf, ClosedJaxpr | Jaxpr):
                yield from _bytes(leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf)
        for x in eqn.outvars:
            yield x.aval.size * x.aval.dtype.itemsize if hasattr(x.aval, "dtype") else 0
