"""Turns a function that every shard runs into one function of the arrays of all shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from xent_jax._shards import Shards

Function = Callable[..., Any]
Axes = Mapping[str, Shards]


def in_shards(local: Function, *over: str, forward: bool = False) -> Function:
    """Returns ``local``, run in every shard of a mesh with axes such as ``"m"`` or ``"bm"``.

    Args:
        local: ``(axes, *args)``, a function of this shard's part of each argument. ``axes`` maps
            the letters of the mesh axes to the axes with their sizes, which are symbols here.
        over: for each argument, the letters of the axes that shard it. Its first dimensions count
            these shards. Over the other axes, it is replicated.
        forward: leaves out the reverse rule, because JAX does not allow forward mode through a
            ``custom_vjp``.

    Returns:
        A function that returns the outputs of all shards; their first dimensions count the shards.
        Its backward pass is ``jax.vjp`` of ``local`` as each shard runs it, with a separate
        cotangent for the output of each shard. The shards' cotangents of replicated arguments are
        summed. ``jax.vmap`` carries out the collectives.
    """
    mesh = "".join(sorted(set("".join(over))))

    def value(*args: Any) -> Any:
        return _mapped(local, mesh, over, args)

    if forward:
        return value
    whole = jax.custom_vjp(value)
    whole.defvjp(lambda *args: (value(*args), args), partial(_backward, local, mesh, over))
    return whole


def _backward(
    local: Function, mesh: str, over: Sequence[str], args: Sequence[Any], g: Any
) -> tuple[Any, ...]:
    places = [i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating)]

    def pull(axes: Axes, g: Any, *args: Any) -> Any:
        def of(*moving: Any) -> Any:
            given = dict(enumerate(args)) | dict(zip(places, moving, strict=True))
            return local(axes, *given.values())

        return jax.vjp(of, *(args[i] for i in places))[1](g)

    cotangents: list[Any] = [None] * len(args)
    every = _mapped(pull, mesh, (mesh, *over), (g, *args))
    for i, parts in zip(places, every, strict=True):
        replicated = [a for a, axis in enumerate(mesh) if axis not in over[i]]
        cotangents[i] = jnp.sum(parts, replicated)
    return tuple(cotangents)


def _mapped(function: Function, mesh: str, over: Sequence[str], args: Sequence[Any]) -> Any:
    sizes: dict[Any, Any] = {}
    for x, axes in zip(args, over, strict=True):
        sizes |= dict(zip(axes, x.shape, strict=False))

    def in_every_shard(x: Any, axes: str) -> Any:
        x = jnp.expand_dims(x, [i for i, axis in enumerate(mesh) if axis not in axes])
        return jnp.broadcast_to(x, (*(sizes[axis] for axis in mesh), *x.shape[len(mesh) :]))

    function = partial(function, {axis: Shards(axis, sizes[axis]) for axis in mesh})
    for axis in reversed(mesh):
        function = jax.vmap(function, axis_name=axis)
    return function(*map(in_every_shard, args, over))
