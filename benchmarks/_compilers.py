"""Compiles for accelerators that are not installed, each in a process of its own."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

CUDA = "jax-cuda12-plugin", "jax-cuda12-pjrt"


class Platform(NamedTuple):
    """An accelerator to compile for, in its own process, because JAX reads its settings once."""

    name: str
    packages: tuple[str, ...]
    install: str
    settings: dict[str, str]
    topology: dict[str, str]


def tpu(kind: str, accelerator: str) -> Platform:
    settings = {
        "JAX_PLATFORMS": "cpu",
        "TPU_ACCELERATOR_TYPE": accelerator,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_LOG_DIR": "disabled",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # or a second process would abort
    }
    topology = {"platform": "tpu", "topology_name": f"{kind}:2x2"}
    return Platform(f"TPU {kind}", ("libtpu",), 'pip install "jax[tpu]=={0}"', settings, topology)


# The public figures of the H100 SXM, as XLA has them in its own
# xla/backends/gpu/target_config/specs/h100_sxm.txtpb; the CUDA plugin no longer holds them.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 1 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


PLATFORMS = {
    "v5e": tpu("v5e", "v5litepod-4"),
    "v6e": tpu("v6e", "v6e-4"),
    "h100": Platform(
        "H100",
        CUDA,
        f"pip install {' '.join(package + '=={0}' for package in CUDA)}",
        {"JAX_PLATFORMS": "", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"},
        {"topology_name": "", "platform": "cuda", "target_config": H100, "topology": "1x1x8"},
    ),
}


def missing(platform: Platform) -> str | None:
    """Returns what to install if a compiler is missing."""
    try:
        for package in platform.packages:
            importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        command = platform.install.format(importlib.metadata.version("jax"))
        return f"{platform.name}: {error.name} is not installed; {command}"
    return None


def lacking(platforms: dict[str, Platform]) -> tuple[list[str], list[str]]:
    """Returns the names whose compilers are installed, and what to install for the others."""
    texts = {name: missing(platform) for name, platform in platforms.items()}
    by_packages = {platforms[name].packages: text for name, text in reversed(texts.items()) if text}
    return [name for name, text in texts.items() if not text], list(by_packages.values())


def answers(script: str, options: list[str], platform: Platform) -> Iterator[list]:
    """Runs ``script options`` with the platform's settings; returns the JSON that it prints."""
    with (
        tempfile.TemporaryFile("w+") as log,  # compilers complain of the missing hardware
        subprocess.Popen(
            [sys.executable, script, *options],
            env=os.environ | platform.settings,
            text=True,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        for line in process.stdout:
            if line.startswith("["):
                yield json.loads(line)
        if process.wait():
            log.seek(0)
            raise SystemExit(f"the compiler for {platform.name} failed:\n{log.read()}")
