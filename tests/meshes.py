"""Meshes of CPU devices, and arrays on them."""

import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from _collectives import bytes_per_device, collectives  # noqa: E402, F401

SPLITS = [(d, m) for d in (1, 2, 4, 8) for m in (1, 2, 4, 8) if d * m <= 8]
"""Every split of 1, 2, 4 and 8 devices, data x model."""


def mesh_of(data=2, model=4, kind=AxisType.Auto):
    devices = np.array(jax.devices()[: data * model]).reshape(data, model)
    return Mesh(devices, ("data", "model"), axis_types=(kind,) * 2)


def put(mesh, x, *spec):
    return jax.device_put(x, NamedSharding(mesh, P(*spec)))


def shaped(mesh, shape, dtype, *spec):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))
