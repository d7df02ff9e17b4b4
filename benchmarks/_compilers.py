"""Compiles for accelerators that are not installed, each in a process of its own."""

import importlib.metadata
import json
import os
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks._records import Record
from benchmarks._running import Benchmark, NotHere, track
from benchmarks._store import decoded

CUDA = "jax-cuda12-plugin", "jax-cuda12-pjrt"
AXES = "data", "model"


class Platform(NamedTuple):
    """Devices to compile for, in a process of their own, because JAX reads its settings once."""

    name: str
    packages: tuple[str, ...]
    install: str
    settings: dict[str, str]
    topology: dict[str, str]  # empty for the devices of this machine


def tpu(name: str, topology: str, accelerator: str) -> Platform:
    settings = {
        "JAX_PLATFORMS": "cpu",
        "TPU_ACCELERATOR_TYPE": accelerator,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_LOG_DIR": "disabled",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # without it, a second process would abort
    }
    target = {"platform": "tpu", "topology_name": topology}
    return Platform(name, ("libtpu",), 'pip install "jax[tpu]=={0}"', settings, target)


# The public figures of the H100 SXM, as XLA has them in its own
# xla/backends/gpu/target_config/specs/h100_sxm.txtpb; the CUDA plugin no longer holds them.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448 registers_per_core_limit: 65536
  registers_per_block_limit: 65536 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 1 } runtime_version { major: 12 minor: 8 }
"""


def h100(name: str, topology: str) -> Platform:
    target = {"topology_name": "", "platform": "cuda", "target_config": H100, "topology": topology}
    install = f"pip install {' '.join(package + '=={0}' for package in CUDA)}"
    settings = {"JAX_PLATFORMS": "", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
    return Platform(name, CUDA, install, settings, target)


def missing(platform: Platform) -> str:
    """Returns what to install if the platform's compiler is missing, or an empty string."""
    try:
        list(map(importlib.metadata.version, platform.packages))
    except importlib.metadata.PackageNotFoundError as error:
        command = platform.install.format(importlib.metadata.version("jax"))
        return f"{platform.name}: {error.name} is not installed; {command}"
    return ""


def compile_for(platforms: dict[str, Platform], benchmark: Benchmark, quick: bool) -> list[Record]:
    """Runs a benchmark inside each platform whose compiler is installed.

    Returns the records that it prints there. Adds to the benchmark's ``left_out`` how to install
    the other compilers, and raises NotHere if none is installed.
    """
    lacking = {one.packages: text for one in reversed(platforms.values()) if (text := missing(one))}
    known = {name: one for name, one in platforms.items() if one.packages not in lacking}
    if not known:
        raise NotHere(*lacking.values())
    found = []
    for name, platform in track(known.items(), "compile for other devices"):
        command = [sys.executable, "-m", f"benchmarks.{benchmark.name}", "--inside", name]
        command += ["--quick"] * quick
        environment = os.environ | platform.settings
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:  # stderr alone means nothing: all complain of missing hardware
            raise SystemExit(f"the compiler for {platform.name} failed:\n{done.stderr}")
        found += map(decoded, json.loads(done.stdout.splitlines()[-1]))
    benchmark.left_out = [*lacking.values(), *benchmark.left_out]
    return found


def mesh_on(platform: Platform, shape: tuple[int, int], explicit: bool = False) -> Mesh:
    """Returns a mesh of the platform's first devices, data x model."""
    found = topologies.get_topology_desc(**platform.topology).devices if platform.topology else None
    devices = np.array((found or jax.devices())[: shape[0] * shape[1]]).reshape(shape)
    return Mesh(devices, AXES, axis_types=(AxisType.Explicit if explicit else AxisType.Auto,) * 2)


def arguments(layout: dict[str, PartitionSpec], mesh: Mesh, size: tuple, dtype: str) -> list:
    """Returns shape, dtype and sharding of the arguments that the letters of a layout name."""
    n, d, v = size
    known = {
        "z": ((n, v), dtype),  # logits
        "y": ((n,), "int32"),  # labels
        "t": ((n, v), "float32"),  # soft labels
        "x": ((n, d), dtype),  # inputs
        "w": ((d, v), dtype),  # kernel
        "e": ((v, d), dtype),  # embedding
        "b": ((v,), dtype),  # bias
        "g": ((n,), "float32"),  # cotangents
        "m": ((n,), "bool"),  # mask
    }
    places = {name: NamedSharding(mesh, spec) for name, spec in layout.items()}
    return [jax.ShapeDtypeStruct(*known[name], sharding=place) for name, place in places.items()]
