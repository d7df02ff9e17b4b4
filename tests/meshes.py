"""Makes meshes of CPU devices, and puts arrays and heads on them."""

import contextlib

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from xent_jax import shard_linear_head

EXPLICIT = pytest.param(
    AxisType.Explicit,
    id="explicit",
    marks=pytest.mark.skipif(
        jax.__version_info__ < (0, 7),
        reason="jax 0.6 lacks reshard, and selects by no mask that lies otherwise",
    ),
)
explicit = pytest.mark.parametrize("kind", [EXPLICIT])
kinds = pytest.mark.parametrize("kind", [pytest.param(AxisType.Auto, id="auto"), EXPLICIT])
tracked = pytest.mark.parametrize("check_vma", [True, False], ids=["tracked", "untracked"])


def mesh_of(data=2, model=4, kind=AxisType.Auto):
    devices = np.array(jax.devices()[: data * model]).reshape(data, model)
    return Mesh(devices, ("data", "model"), axis_types=(kind,) * 2)


BY_CLASS = P(None, "model")


def on_mesh(head, kernel=BY_CLASS, mesh=None):
    """Returns the head on a mesh, with sharded tokens and, by default, sharded classes."""
    return shard_linear_head(head, mesh or mesh_of(2, 2), inputs=P("data"), kernel=kernel)


def put(mesh, x, *spec):
    return jax.device_put(x, NamedSharding(mesh, P(*spec)))


def shaped(mesh, shape, dtype, *spec):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))


@contextlib.contextmanager
def mesh_set(data=2, model=4, kind=AxisType.Auto):
    """Sets a mesh for the context by ``jax.set_mesh``, or its predecessor before jax 0.7."""
    mesh = mesh_of(data, model, kind)
    with jax.set_mesh(mesh) if hasattr(jax, "set_mesh") else jax.sharding.use_mesh(mesh):
        yield mesh


def shard_map(function, in_specs, out_specs, mesh=None, check_vma=True):
    """Applies ``jax.shard_map``, by default over 2 x 4, or before jax 0.7 the experimental one."""
    mesh = mesh or mesh_of()
    if jax.__version_info__ >= (0, 7):
        specs = {"in_specs": in_specs, "out_specs": out_specs}
        return jax.shard_map(function, mesh=mesh, **specs, check_vma=check_vma)
    if check_vma:
        pytest.skip("shard_map of jax 0.6 lacks types that say what varies: check_rep=False there")
    from jax.experimental.shard_map import shard_map

    return shard_map(function, mesh, in_specs, out_specs, check_rep=False)
