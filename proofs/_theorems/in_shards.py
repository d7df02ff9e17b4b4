"""Turns a function that every shard runs into one function of the arrays of all shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from xent_jax._shards import SizedAxis

Function = Callable[..., Any]
Axes = Mapping[str, SizedAxis]


def in_shards(local: Function, *over: str, forward: bool = False) -> Function:
    """``local`` in every shard of a mesh whose axes are letters, ``"m"`` or ``"bm"``.

    Args:
        local: ``(axes, *args)``, of each argument's part in a shard. ``axes`` holds the mesh axes
            by their letters, with their sizes, which here are symbols.
        over: for each argument the axes that divide it: its first dimensions are the shards.
            What an axis does not divide is the same in all its shards.
        forward: without the reverse rule, for forward mode, which JAX takes through no
            ``custom_vjp``.

    Returns:
        The function to the outputs of all shards, which are its first dimensions. Its
        backward is ``jax.vjp`` of ``local`` as each shard runs it, with a cotangent of its
        own for each shard's output; the parts that the shards have of the cotangent to what
        an axis does not divide are added up. Collectives are what ``jax.vmap`` makes of them.
    """
    mesh = "".join(sorted(set("".join(over))))

    def value(*args: Any) -> Any:
        return _mapped(local, mesh, over, args)

    if forward:
        return value
    whole = jax.custom_vjp(value)

    def backward(args: Sequence[Any], g: Any) -> tuple[Any, ...]:
        places = [i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating)]

        def pull(axes: Axes, g: Any, *args: Any) -> Any:
            def of(*moving: Any) -> Any:
                given = list(args)
                for place, x in zip(places, moving, strict=True):
                    given[place] = x
                return local(axes, *given)

            return jax.vjp(of, *(args[i] for i in places))[1](g)

        cotangents: list[Any] = [None] * len(args)
        every = _mapped(pull, mesh, (mesh, *over), (g, *args))
        for i, parts in zip(places, every, strict=True):
            cotangents[i] = jnp.sum(
                parts, [a for a, axis in enumerate(mesh) if axis not in over[i]]
            )
        return tuple(cotangents)

    whole.defvjp(lambda *args: (value(*args), args), backward)
    return whole


def _mapped(function: Function, mesh: str, over: Sequence[str], args: Sequence[Any]) -> Any:
    sizes: dict[Any, Any] = {}
    for x, axes in zip(args, over, strict=True):
        sizes |= dict(zip(axes, x.shape, strict=False))

    def in_every_shard(x: Any, axes: str) -> Any:
        x = jnp.expand_dims(x, [i for i, axis in enumerate(mesh) if axis not in axes])
        return jnp.broadcast_to(x, (*(sizes[axis] for axis in mesh), *x.shape[len(mesh) :]))

    function = partial(function, {axis: SizedAxis(axis, sizes[axis]) for axis in mesh})
    for axis in reversed(mesh):
        function = jax.vmap(function, axis_name=axis)
    return function(*map(in_every_shard, args, over))
