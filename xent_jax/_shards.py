"""Classes and examples divided over the devices of a mesh: what must cross, and how it is typed.

Inside ``jax.shard_map`` each device holds a slice of the classes. Sums over all classes
are sums of the shards' sums. ``axis_name`` names the mesh axis, or axes; None is one shard.

What differs between versions of JAX stands in this file alone.
"""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from xent_jax._types import AxisName

HAS_RESHARD = jax.__version_info__ >= (0, 7)
"""Whether arrays can be moved to another division under explicit sharding."""

SCAN_KEEPS_RULES = jax.__version_info__ >= (0, 7)
"""Whether a vjp taken inside ``lax.scan`` leaves the rules of ``custom_jvp`` to the next one."""


def mesh_by_name() -> AbstractContextManager[Any]:
    """Names the mesh in use, as JAX does while it traces the forward of a ``custom_vjp``.

    JAX's caches tell a mesh that was named from the same mesh that was not. Within this context
    the trace of the value is therefore found again in that of the forward.
    """
    if not hasattr(jax.sharding, "use_abstract_mesh"):  # before jax 0.8
        return nullcontext()
    return jax.sharding.use_abstract_mesh(jax.sharding.get_abstract_mesh())


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


def together(*arrays: Any) -> tuple[Any, ...]:
    """The arrays ``[..., k]``, ``[...]`` or scalars, divided alike; None stays None.

    Under explicit sharding JAX combines no arrays whose axes are divided over different mesh
    axes. Here an axis that one array has divided becomes divided in all of them, and where two
    disagree the first array is followed. Elsewhere nothing changes.
    """
    given = [x for x in arrays if x is not None]
    meshes = [jax.typeof(x).sharding.mesh for x in given if set(explicit(x)) != {None}]
    if not meshes or not HAS_RESHARD:
        return arrays
    rank = max(x.ndim for x in given)
    sizes: list[Any] = [1] * rank
    wanted: list[Any] = [None] * rank
    used: set[str] = set()
    for x in given:
        for axis, (size, entry) in enumerate(zip(x.shape, explicit(x), strict=False)):
            sizes[axis] = size if sizes[axis] == 1 else sizes[axis]
            over = set(entry if isinstance(entry, tuple) else (entry,)) - {None}
            if wanted[axis] is None and not over & used:
                wanted[axis] = entry
                used |= over

    def divided(x: Array) -> Array:
        axes = zip(wanted, x.shape, sizes, strict=False)
        return _moved(x, meshes[0], [e if size == full else None for e, size, full in axes])

    return tuple(None if x is None else divided(x) for x in arrays)


def _moved(x: Array, mesh: Any, spec: list[Any]) -> Array:
    """``x``, divided over the mesh as the spec says."""
    from jax.sharding import get_abstract_mesh, reshard

    now = jax.typeof(x).sharding
    if tuple(now.spec) == tuple(spec):
        return x
    # An array of one device belongs to no mesh: outside jit it joins one only where that is set.
    if now.mesh.empty and not isinstance(x, jax.core.Tracer) and get_abstract_mesh().empty:
        return x
    return reshard(x, NamedSharding(mesh, PartitionSpec(*spec)))


def with_whole_rows(x: Array) -> Array:
    """``x``, under explicit sharding with its last axis in one piece."""
    *spec, last = explicit(x)
    if last is None or not HAS_RESHARD:
        return x
    return _moved(x, jax.typeof(x).sharding.mesh, [*spec, None])


def merged(spec: tuple[Any, ...]) -> Any:
    """The mesh axes that divide what is merged of axes that these divide."""
    divided = [entry for entry in spec if entry is not None]
    if len(divided) < 2:
        return divided[0] if divided else None
    return tuple(n for entry in divided for n in (entry if isinstance(entry, tuple) else (entry,)))


def reshape(x: Array, shape: tuple[int, ...], spec: tuple[Any, ...]) -> Array:
    """``x.reshape(shape)``, under explicit sharding divided as the spec says."""
    if set(spec) == {None} or not HAS_RESHARD:
        return x.reshape(shape)
    sharding = NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec(*spec))
    return lax.reshape(x, shape, out_sharding=sharding)


def gathers(x: Array, i: Array) -> bool:
    """Whether JAX gathers from the last axis of ``x`` with these indices.

    Under explicit sharding it does not along a divided axis, nor with a scalar that ``vmap``
    maps over a divided axis, of which the scalar's type says nothing.
    """
    if explicit(x)[-1] is not None:
        return False
    meshes = [jax.typeof(a).sharding.mesh for a in (x, i)]
    typed = HAS_RESHARD and any(AxisType.Explicit in mesh.axis_types for mesh in meshes)
    return not (typed and i.ndim == 0)


def take(x: Array, i: Array) -> Array:
    """``x[i]`` along the first axis, under explicit sharding divided as the indices are."""
    if set(explicit(i)) == {None} or not HAS_RESHARD:
        return x[i]
    return x.at[i].get(out_sharding=jax.typeof(i).sharding)


def shape_of(shape: tuple[int, ...], dtype: Any, axes: frozenset[str]) -> ShapeDtypeStruct:
    """An array that differs over these axes, to trace with."""
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):  # random keys, of which there is no zero
        return ShapeDtypeStruct(shape, dtype)
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
