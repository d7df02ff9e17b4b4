"""Gives a function its hand-derived derivative, in reverse and in forward mode.

The core of a loss is three functions: the row statistics that the forward and the backward pass
share, the value, and the backward function. This module makes of them

- the reverse rule, a ``jax.custom_vjp`` whose residuals are its arguments and the statistics;
- the forward rule, a ``jax.custom_jvp`` whose tangent map is the transpose of the same backward
  function, under ``jax.checkpoint`` so that it keeps no more residuals.

The reverse rule returns the value with the forward rule. A gradient that is differentiated once
more, in either mode, therefore uses hand-derived derivatives only.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from xent_jax import _shards
from xent_jax._modes import Mode
from xent_jax._shards import WHOLE, Shards


def closed_form(
    statistics: Callable[..., Any],
    value: Callable[..., Any],
    backward: Callable[..., Any],
    unread: tuple[int, ...] = (),
    gradient_once: bool = True,
) -> Callable[..., Any]:
    """Joins a value and its backward function into one differentiable function of ``*args``.

    Args:
        statistics: ``(shards, alone, *args) -> rows``; its own derivative must be correct or
            zero. ``alone`` says that only the value will be computed from them.
        value: ``(rows, *args) -> out``.
        backward: ``(rows, args, g) -> cotangents``, one for each of ``args``, linear in
            ``g``; ``None`` for an argument that is absent or holds integers.
        unread: the indices of ``args`` that the backward function does not read, and that are
            therefore not kept.
        gradient_once: whether to prevent XLA:CPU from computing the cotangent of the first
            argument twice; see ``_made_once``.

    Returns:
        ``core(mode, *args, shards=WHOLE)``: a ``custom_vjp`` in reverse mode, a ``custom_jvp``
        in forward mode. ``shards`` are those of the classes, the last axis of the first
        argument.
    """
    forward = _with_tangent(value, backward)

    def primal(shards, *args):
        return forward(statistics(shards, True, *args), *args)

    reverse = jax.custom_vjp(primal, nondiff_argnums=(0,))

    def _forward(shards, *args):
        rows = statistics(shards, False, *args)
        kept = tuple(None if i in unread else arg for i, arg in enumerate(args))
        return forward(rows, *args), (rows, kept)

    def _backward(shards, residual, g):
        first, *others = backward(*residual, g)
        return (_made_once(first) if gradient_once else first, *others)

    reverse.defvjp(_forward, _backward)

    def core(mode: Mode, *args, shards=WHOLE):
        args = _alike(args, shards)
        with _shards.mesh_by_name():  # without it, the whole function would be traced twice
            return (primal if mode == "forward" else reverse)(shards, *args)

    return core


@jax.custom_jvp
def _made_once(x: Array) -> Array:
    """Returns ``x``, which XLA:CPU then computes only once, however many operations read it.

    If hidden states ``[B, T, D]`` are multiplied by a kernel, one of the two products that read the
    gradient of the logits needs it transposed. XLA:CPU then computes the gradient in two loops and
    into two arrays, beside the exponentials that both loops read. It does so only for cheap
    operations, and a division is not cheap: divided by a 1 that XLA does not know to be 1, the
    gradient overwrites the exponentials. ``lax.optimization_barrier`` does not help, because XLA
    removes it before it decides. With fewer than 3 axes no array needs to be transposed. In
    bfloat16 the products convert what they read, and it is computed once anyway.
    """
    if x.ndim < 3 or x.dtype == jnp.bfloat16:
        return x

    def divided(x: Array) -> Array:
        return x / jnp.where(jnp.isnan(x), x, jnp.ones((), x.dtype))

    return lax.platform_dependent(x, cpu=divided, default=lambda x: x)


@_made_once.defjvp
def _made_once_jvp(primals, tangents):
    return _made_once(*primals), tangents[0]


def _with_tangent(value: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the value with its forward rule, the transpose of the backward function."""
    forward = jax.custom_jvp(value)

    @functools.partial(forward.defjvp, symbolic_zeros=True)
    def _tangent(primals, tangents):
        rows, *args = primals
        out = forward(rows, *args)
        moving = [i for i, t in enumerate(tangents[1:]) if moves(t)]

        def push(rows, args, directions):
            def pull(g):
                cotangents = backward(rows, tuple(args), g)
                return [cotangents[i] for i in moving]

            return jax.linear_transpose(pull, out)(directions)[0]

        directions = [tangents[1 + i] for i in moving]
        return out, jax.checkpoint(push, prevent_cse=False)(rows, args, directions)

    return forward


def _alike(args: tuple[Any, ...], shards: Shards) -> tuple[Any, ...]:
    """Returns the arguments, typed as varying over the mesh axes of their cotangents.

    In ``shard_map``, an argument without a class axis is the same in all shards.
    """
    args = _shards.together(*args)
    axes = _shards.varying(args) | shards.names
    rank = jnp.ndim(args[0])

    def one(arg: Any) -> Any:
        by_class = not shards or jnp.ndim(arg) == rank
        return _shards.vary(arg, axes if by_class else axes - shards.names)

    return tuple(None if arg is None else one(arg) for arg in args)


def moves(tangent: Any) -> bool:
    """Returns whether an argument is present, floating-point and being differentiated."""
    return (
        tangent is not None
        and not isinstance(tangent, SymbolicZero)
        and tangent.dtype != jax.dtypes.float0
    )


def to_argument(cotangent: Array, like: Array) -> Array:
    """Sums the cotangent of a broadcast argument to its shape, and casts it to its dtype."""
    lead = cotangent.ndim - like.ndim
    stretched = [i + lead for i, n in enumerate(like.shape) if n != cotangent.shape[i + lead]]
    axes = (*range(lead), *stretched)
    if axes:
        cotangent = jnp.sum(cotangent, axis=axes)
    return cotangent.reshape(like.shape).astype(like.dtype)
