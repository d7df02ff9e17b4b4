"""Classes and examples sharded over a mesh: the collectives, and the types of values.

Inside ``jax.shard_map`` each device holds a slice of the classes. Sums over all classes are sums of
the shards' sums. ``axis_name`` is the mesh axis or axes; None means that there is one shard.

This is the only file that depends on the version of JAX.
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
"""Whether JAX can reshard arrays under explicit sharding."""

SCAN_KEEPS_RULES = jax.__version_info__ >= (0, 7)
"""Whether a vjp inside ``lax.scan`` keeps the rules of ``custom_jvp`` for second derivatives."""


def mesh_by_name() -> AbstractContextManager[Any]:
    """Sets the mesh in use explicitly, as JAX does to trace the forward rule of a ``custom_vjp``.

    JAX's caches distinguish a mesh that was set explicitly from the same mesh that was not. In this
    context, the trace of the value is therefore reused for the forward rule.
    """
    if not hasattr(jax.sharding, "use_abstract_mesh"):  # before jax 0.8
        return nullcontext()
    return jax.sharding.use_abstract_mesh(jax.sharding.get_abstract_mesh())


@dataclasses.dataclass(frozen=True)
class Shards:
    """The mesh axes over which the classes, or the examples, are divided; by default none.

    Losses are written once, for classes in shards. Without mesh axes there is one shard, and the
    methods return their argument.
    """

    axis_name: AxisName | None = None
    size: Any = None  # a symbol in proofs; JAX then does not track what varies over the axis

    def __bool__(self) -> bool:
        return self.axis_name is not None

    @property
    def argument(self) -> Any:
        """The ``axis_name`` that stands for these shards in a call of a public function."""
        return self.axis_name if self.size is None else self

    @property
    def count(self) -> int:
        """The number of shards."""
        if not self:
            return 1
        return lax.psum(1, self.axis_name) if self.size is None else self.size

    @property
    def names(self) -> frozenset[str]:
        """The mesh axes over which JAX tracks what varies."""
        if self.axis_name is None or self.size is not None:
            return frozenset()
        return frozenset((self.axis_name,) if isinstance(self.axis_name, str) else self.axis_name)

    @property
    def tracked(self) -> bool:
        """Whether JAX tracks which values vary over the axes; true without axes."""
        if not self or self.size is not None:
            return not self
        return self.names <= varying(lax.axis_index(self.axis_name))

    def psum(self, x: Any) -> Any:
        """Sums over the shards; of a tree, each array."""
        if not self:
            return x
        # One array at a time, as JAX does itself since 0.8. Before 0.8, the psum of a tree had no
        # second derivative.
        return jax.tree.map(lambda a: lax.psum(a, self.axis_name), vary(x, self.names))

    def sum(self, x: Any) -> Any:
        """Sums over the last axis, the classes, of all shards; of a tree, each array."""
        return self.psum(jax.tree.map(lambda a: jnp.sum(a, axis=-1), x))

    def pmax(self, x: Array) -> Array:
        """Returns the maximum over the shards."""
        return lax.pmax(vary(x, self.names), self.axis_name) if self else x

    def any(self, x: Array) -> Array:
        """Returns whether ``x`` is true in any shard."""
        return self.psum(x.astype(jnp.int32)) > 0 if self else x

    @property
    def index(self) -> Array | int:
        """The number of this shard, from 0."""
        return lax.axis_index(self.axis_name) if self else 0

    def first_class(self, size: int) -> Array | int:
        """Returns the index of this shard's first class; each shard has ``size`` classes."""
        return self.index * size

    def cotangent(self, g: Array) -> Array:
        """Returns the cotangent of a result of all shards, from that of one shard's copy.

        If ``jax.shard_map`` tracks which values vary, each shard gets the whole cotangent.
        Otherwise (``check_vma=False``, vmap, pmap) JAX transposes each copy separately, and the
        whole cotangent is their sum.
        """
        return g if self.tracked else self.psum(g)

    def share(self, like: Array) -> Array:
        """Returns per-shard cotangents that ``cotangent`` turns into ones."""
        ones = jnp.ones_like(like)
        return ones if self.tracked else jnp.where(self.index == 0, ones, jnp.zeros_like(like))


WHOLE = Shards()
"""One shard: an array that no mesh axis divides."""


def varying(*arrays: Any) -> frozenset[str]:
    """Returns the mesh axes over which any of the arrays varies, as JAX tracks it."""
    out: frozenset[str] = frozenset()
    for x in jax.tree.leaves(arrays):
        kind = x if isinstance(x, ShapeDtypeStruct) else jax.typeof(x)
        kind = getattr(kind, "manual_axis_type", kind)  # before jax 0.10 the type itself has vma
        out |= getattr(kind, "varying", None) or getattr(kind, "vma", None) or frozenset()
    return out


def vary(x: Any, axes: frozenset[str]) -> Any:
    """Returns the same numbers, typed as varying over these axes too.

    The transpose sums over the axes, so that partial cotangents of the shards become the whole one.
    """

    def one(a: Any) -> Any:
        more = tuple(sorted(axes - varying(a)))
        if not more or not Shards(more).tracked:
            return a
        if hasattr(lax, "pcast"):
            return lax.pcast(a, more, to="varying")
        return getattr(lax, "pvary")(a, more)  # noqa: B009  newer JAX does not have it

    return jax.tree.map(one, x)


def explicit(x: Array) -> tuple[Any, ...]:
    """Returns the mesh axes that shard each axis under explicit sharding, from the array's type."""
    return tuple(jax.typeof(x).sharding.spec) or (None,)


def together(*arrays: Any) -> tuple[Any, ...]:
    """Returns the arrays ``[..., k]``, ``[...]`` or scalars, sharded alike; None stays None.

    Under explicit sharding, JAX does not combine arrays whose axes are sharded over different mesh
    axes. Here an axis that is sharded in one array becomes sharded in all of them. If two arrays
    disagree, the first one decides. Without explicit sharding nothing changes.
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
    """Returns ``x``, resharded over the mesh as the spec says."""
    from jax.sharding import get_abstract_mesh, reshard

    now = jax.typeof(x).sharding
    if tuple(now.spec) == tuple(spec):
        return x
    # An array on one device belongs to no mesh: outside jit, JAX reshards it only if a mesh is set.
    if now.mesh.empty and not isinstance(x, jax.core.Tracer) and get_abstract_mesh().empty:
        return x
    return reshard(x, NamedSharding(mesh, PartitionSpec(*spec)))


def with_whole_rows(x: Array) -> Array:
    """Returns ``x`` with its last axis replicated under explicit sharding."""
    *spec, last = explicit(x)
    if last is None or not HAS_RESHARD:
        return x
    return _moved(x, jax.typeof(x).sharding.mesh, [*spec, None])


def merged(spec: tuple[Any, ...]) -> Any:
    """Returns the mesh axes that shard an axis which is merged from axes with this spec."""
    divided = [entry for entry in spec if entry is not None]
    if len(divided) < 2:
        return divided[0] if divided else None
    return tuple(n for entry in divided for n in (entry if isinstance(entry, tuple) else (entry,)))


def reshape(x: Array, shape: tuple[int, ...], spec: tuple[Any, ...]) -> Array:
    """Returns ``x.reshape(shape)``, sharded as the spec says under explicit sharding."""
    if set(spec) == {None} or not HAS_RESHARD:
        return x.reshape(shape)
    sharding = NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec(*spec))
    return lax.reshape(x, shape, out_sharding=sharding)


def gathers(x: Array, i: Array) -> bool:
    """Returns whether JAX can gather from the last axis of ``x`` with these indices.

    Under explicit sharding it cannot along a sharded axis. Nor can it with a scalar index that
    ``vmap`` maps over a sharded axis, which the type of the scalar does not show.
    """
    if explicit(x)[-1] is not None:
        return False
    meshes = [jax.typeof(a).sharding.mesh for a in (x, i)]
    typed = HAS_RESHARD and any(AxisType.Explicit in mesh.axis_types for mesh in meshes)
    return not (typed and i.ndim == 0)


def take(x: Array, i: Array) -> Array:
    """Returns ``x[i]`` along the first axis, sharded as the indices under explicit sharding."""
    if set(explicit(i)) == {None} or not HAS_RESHARD:
        return x[i]
    return x.at[i].get(out_sharding=jax.typeof(i).sharding)


def shape_of(shape: tuple[int, ...], dtype: Any, axes: frozenset[str]) -> ShapeDtypeStruct:
    """Returns the shape of an array that varies over these axes, to trace with."""
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):  # random keys have no zeros
        return ShapeDtypeStruct(shape, dtype)
    return jax.eval_shape(lambda: vary(jnp.zeros(shape, dtype), axes))


def shard_map(
    function: Callable[..., Any], mesh: Any, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """Returns ``jax.shard_map`` of a function; on explicit meshes it reshards its arguments."""
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

    from jax.sharding import reshard  # jax 0.6 does not have it

    def moved(*args: Any) -> Any:
        shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), in_specs)
        return mapped(*reshard(args, shardings))

    return moved
