"""One mechanism that gives a function its closed-form derivative, in both modes.

A kernel is three functions: the row statistics that forward and backward share, the
value, and the backward. From these come

- the reverse rule, a ``jax.custom_vjp`` that keeps its arguments and the statistics;
- the forward rule, a ``jax.custom_jvp`` whose tangent map is the transpose of that same
  backward, under ``jax.checkpoint`` so that it keeps no more.

The value that the reverse rule returns is the forward rule's, so that differentiating a
gradient once more, in either mode, meets closed forms alone.
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
from xent_jax._types import AxisName


def closed_form(
    statistics: Callable[..., Any],
    value: Callable[..., Any],
    backward: Callable[..., Any],
    unread: tuple[int, ...] = (),
    gradient_once: bool = True,
) -> Callable[..., Any]:
    """Joins a value and its backward into one differentiable function of ``*args``.

    Args:
        statistics: ``(axis_name, alone, *args) -> rows``; its own derivative must be right, or
            zero. ``alone`` says that only the value is wanted of them.
        value: ``(rows, *args) -> out``.
        backward: ``(rows, args, g) -> cotangents``, one for each of ``args``, linear in
            ``g``; ``None`` for an argument that is absent or holds integers.
        unread: which of ``args`` the backward does not read, so that none is kept.
        gradient_once: whether XLA:CPU is kept from computing the cotangent of the first
            argument twice, see ``_made_once``.

    Returns:
        ``kernel(mode, *args, axis_name=None)``: a ``custom_vjp`` in reverse mode, a ``custom_jvp``
        in forward mode. ``axis_name`` is the mesh axis over which the classes, the last axis of
        the first argument, are divided.
    """
    forward = _with_tangent(value, backward)

    def primal(axis_name, *args):
        return forward(statistics(axis_name, True, *args), *args)

    reverse = jax.custom_vjp(primal, nondiff_argnums=(0,))

    def _forward(axis_name, *args):
        rows = statistics(axis_name, False, *args)
        kept = tuple(None if i in unread else arg for i, arg in enumerate(args))
        return forward(rows, *args), (rows, kept)

    def _backward(axis_name, residual, g):
        first, *others = backward(*residual, g)
        return (_made_once(first) if gradient_once else first, *others)

    reverse.defvjp(_forward, _backward)

    def kernel(mode: Mode, *args, axis_name=None):
        args = _alike(args, axis_name)
        with _shards.mesh_by_name():  # or all of the kernel would be traced twice
            return (primal if mode == "forward" else reverse)(axis_name, *args)

    return kernel


@jax.custom_jvp
def _made_once(x: Array) -> Array:
    """``x``, which XLA:CPU computes once however many operations read it.

    Where hidden states ``[B, T, D]`` are multiplied by a kernel, one of the two products that
    read the gradient of the logits needs it transposed. XLA:CPU then computes the gradient in
    two loops, into two arrays, beside the exponentials that both read. It does so for cheap
    operations, and a division is none: divided by a 1 that it cannot foresee, the gradient
    overwrites the exponentials. It removes ``lax.optimization_barrier`` before it decides.
    With fewer axes than 3 no array need be transposed so, and in bfloat16 the products convert
    what they read, which is computed once as it is.
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
    """The value with its forward rule, the transpose of the backward."""
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


def _alike(args: tuple[Any, ...], axis_name: AxisName | None) -> tuple[Any, ...]:
    """All arguments divided over the same mesh axes, as their cotangents will be.

    In ``shard_map`` what has no axis of classes is the same over ``axis_name``.
    """
    args = _shards.together(*args)
    axes = _shards.varying(args) | _shards.names(axis_name)
    rank = jnp.ndim(args[0])

    def one(arg: Any) -> Any:
        by_class = axis_name is None or jnp.ndim(arg) == rank
        return _shards.vary(arg, axes if by_class else axes - _shards.names(axis_name))

    return tuple(None if arg is None else one(arg) for arg in args)


def moves(tangent: Any) -> bool:
    """Whether an argument is there, holds floats and is being differentiated."""
    return (
        tangent is not None
        and not isinstance(tangent, SymbolicZero)
        and tangent.dtype != jax.dtypes.float0
    )


def to_argument(cotangent: Array, like: Array) -> Array:
    """A broadcast argument's cotangent, summed to its own shape and cast to its dtype."""
    lead = cotangent.ndim - like.ndim
    stretched = [
        i + lead for i, n in enumerate(like.shape) if n == 1 and cotangent.shape[i + lead] != 1
    ]
    axes = (*range(lead), *stretched)
    if axes:
        cotangent = jnp.sum(cotangent, axis=axes)
    return cotangent.reshape(like.shape).astype(like.dtype)
