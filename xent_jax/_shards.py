"""Classes and examples divided over the devices of a mesh: what must cross, and how it is typed.

Inside ``jax.shard_map`` each device holds a slice of the classes. Sums over all classes
are sums of the shards' sums. ``axis_name`` names the mesh axis, or axes; None is one shard.

What differs between versions of JAX stands in this file alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct, lax
from jax.sharding import AxisType, NamedSharding

from xent_jax._types import AxisName

SCAN_KEEPS_RULES = jax.__version_info__ >= (0, 7)
"""Whether a vjp taken inside ``lax.scan`` leaves the rules of ``custom_jvp`` to the next one."""


@dataclasses.dataclass(frozen=True)
class SizedAxis:
    """A mesh axis with its size, given where the size is a symbol that JAX does not know.

    A proof gives it as ``axis_name``. Its values are not tracked as varying over the axis.
    """

    name: str
    size: Any


def count(axis_name: AxisName | SizedAxis | None) -> int:
    """The number of shards."""
    if axis_name is None:
        return 1
    return axis_name.size if isinstance(axis_name, SizedAxis) else lax.psum(1, axis_name)


def _named(axis_name: Any) -> Any:
    return axis_name.name if isinstance(axis_name, SizedAxis) else axis_name


def total(x: Any, axis_name: AxisName | None) -> Any:
    """Summed over the shards; of a tree each array."""
    if axis_name is None:
        return x
    # One by one, as JAX does since 0.8: before, psum of a tree has no second derivative.
    return jax.tree.map(lambda a: lax.psum(a, _named(axis_name)), vary(x, names(axis_name)))


def largest(x: Array, axis_name: AxisName | None) -> Array:
    """The maximum over the shards."""
    return x if axis_name is None else lax.pmax(vary(x, names(axis_name)), _named(axis_name))


def anywhere(x: Array, axis_name: AxisName | None) -> Array:
    """Whether it is true in any shard."""
    return x if axis_name is None else total(x.astype(jnp.int32), axis_name) > 0


def first_class(size: int, axis_name: AxisName | None) -> Array | int:
    """The number of this shard's first class, where each has ``size`` of them."""
    return 0 if axis_name is None else lax.axis_index(_named(axis_name)) * size


def cotangent(g: Array, axis_name: AxisName | None) -> Array:
    """The cotangent of what all shards computed together, from that of one shard's copy.

    ``jax.shard_map`` that tracks types hands each shard the whole. Elsewhere (``check_vma=False``,
    vmap, pmap) JAX transposes each copy by itself: the whole is their sum.
    """
    return g if tracked(axis_name) else total(g, axis_name)


def share(like: Array, axis_name: AxisName | None) -> Array:
    """Ones, as cotangents that ``cotangent`` makes ones again."""
    ones = jnp.ones_like(like)
    if tracked(axis_name):
        return ones
    return jnp.where(lax.axis_index(_named(axis_name)) == 0, ones, jnp.zeros_like(like))


def tracked(axis_name: AxisName | None) -> bool:
    """Whether a value's type says that it is the same in all shards."""
    if axis_name is None or isinstance(axis_name, SizedAxis):
        return axis_name is None
    return names(axis_name) <= varying(lax.axis_index(axis_name))


def names(axis_name: AxisName | None) -> frozenset[str]:
    """The axes whose values JAX may track, as a set."""
    if axis_name is None or isinstance(axis_name, SizedAxis):
        return frozenset()
    return frozenset((axis_name,) if isinstance(axis_name, str) else axis_name)


def varying(*arrays: Any) -> frozenset[str]:
    """The mesh axes over which any of the arrays is known to differ."""
    out: frozenset[str] = frozenset()
    for x in jax.tree.leaves(arrays):
        kind = x if isinstance(x, ShapeDtypeStruct) else jax.typeof(x)
        kind = getattr(kind, "manual_axis_type", kind)  # before jax 0.10 the type itself has vma
        out |= getattr(kind, "varying", None) or getattr(kind, "vma", None) or frozenset()
    return out


def vary(x: Any, axes: frozenset[str]) -> Any:
    """The same numbers, typed as differing over these axes too.

    Its transpose sums over them: a cotangent that each shard knows in part becomes whole.
    """

    def one(a: Any) -> Any:
        more = tuple(sorted(axes - varying(a)))
        if not more or not tracked(more):
            return a
        if hasattr(lax, "pcast"):
            return lax.pcast(a, more, to="varying")
        return getattr(lax, "pvary")(a, more)  # noqa: B009  newer JAX has it no longer

    return jax.tree.map(one, x)


def explicit(x: Array) -> tuple[Any, ...]:
    """Which mesh axes divide each axis, as the array's type says under explicit sharding."""
    return tuple(jax.typeof(x).sharding.spec) or (None,)


def shape_of(shape: tuple[int, ...], dtype: Any, axes: frozenset[str]) -> ShapeDtypeStruct:
    """An array that differs over these axes, to trace with."""
    return jax.eval_shape(lambda: vary(jnp.zeros(shape, dtype), axes))


def shard_map(
    function: Callable[..., Any], mesh: Any, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """``jax.shard_map`` that moves its arguments where it wants them, on explicit meshes too."""
    typed = AxisType.Explicit in mesh.axis_types
    if jax.__version_info__ < (0, 7):  # 0.6.1 has a jax.shard_map, but no reshard
        from jax.experimental.shard_map import shard_map as experimental

        if typed:
            raise NotImplementedError(
                f"a mesh with explicit axes needs jax 0.7 or newer, got {jax.__version__}: "
                "make it with axis_types=AxisType.Auto"
            )
        return experimental(function, mesh, in_specs, out_specs, check_rep=False)
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
    if not typed:
        return mapped

    from jax.sharding import reshard  # not there in jax 0.6

    def moved(*args: Any) -> Any:
        shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), in_specs)
        return mapped(*reshard(args, shardings))

    return moved
