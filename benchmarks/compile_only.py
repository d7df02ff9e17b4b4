"""Temporary memory of value and gradient on a TPU v5e and an H100, with neither at hand.

    pip install "jax[tpu]==V"                           # V: the version of jax in use
    pip install jax-cuda12-plugin==V jax-cuda12-pjrt==V
    pip install "xent-jax[bench]"
    python benchmarks/compile_only.py [--output DIR]

The compilers of both run without the hardware and state the memory that a program needs
beside its arguments and results. They give neither times nor numbers. The H100's compiler
would tune its kernels on the device, here it takes its defaults; temporary memory changes
with the compiler's version.

Prints a table, writes compile_only.md. About a minute.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

N, K = 8192, 32768  # well above what a TPU would move to its fast memory, out of this count
DTYPES = ("bfloat16", "float32")
CASES = (
    "xent_jax, integer labels",
    "xent_jax, integer labels, ignore_index, label_smoothing, z_loss",
    "xent_jax, soft labels",
    "xent_jax.forward_mode, integer labels",
    "optax, integer labels",
    "optax, integer labels, logits cast to float32",
    "optax, soft labels",
)
NAMES = {"tpu": "TPU v5e", "cuda": "H100"}
PACKAGES = {"tpu": ["libtpu"], "cuda": ["jax-cuda12-plugin", "jax-cuda12-pjrt"]}
INSTALL = {
    "tpu": 'pip install "jax[tpu]=={0}"',
    "cuda": "pip install jax-cuda12-plugin=={0} jax-cuda12-pjrt=={0}",
}
# JAX reads these when it is imported, so that each platform has a process of its own.
SETTINGS = {
    "tpu": {
        "JAX_PLATFORMS": "cpu",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_LOG_DIR": "disabled",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # or a second process would abort
    },
    "cuda": {"JAX_PLATFORMS": "", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"},
}
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


def losses() -> dict:
    """The loss of each case, a function of logits and labels."""
    import jax.numpy as jnp
    import optax

    import xent_jax

    name = "softmax_cross_entropy_with_integer_labels"
    ours, theirs = getattr(xent_jax, name), getattr(optax, name)
    options = {"ignore_index": -100, "label_smoothing": 0.1, "z_loss": 1e-4, "reduction": "mean"}
    functions = (
        ours,
        lambda z, y: ours(z, y, **options),
        xent_jax.softmax_cross_entropy,
        getattr(xent_jax.forward_mode, name),
        theirs,
        lambda z, y: theirs(z.astype(jnp.float32), y),
        optax.softmax_cross_entropy,
    )
    return dict(zip(CASES, functions, strict=True))


def device_sharding(platform: str):
    """One absent device to compile for."""
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    if platform == "tpu":
        topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    else:
        topology = topologies.get_topology_desc(
            "", platform="cuda", target_config=H100, topology="1x1x8"
        )
    return NamedSharding(Mesh(np.array(topology.devices[:1]), ("x",)), PartitionSpec())


def compile_all(platform: str) -> None:
    """In the process of one platform: compiles the cases, prints a line of JSON for each."""
    import jax

    sharding = device_sharding(platform)
    for case, loss in losses().items():
        for dtype in DTYPES:
            labels = ((N, K), "float32") if "soft" in case else ((N,), "int32")
            specs = [
                jax.ShapeDtypeStruct(shape, kind, sharding=sharding)
                for shape, kind in [((N, K), dtype), labels]
            ]
            step = jax.value_and_grad(lambda z, t, loss=loss: loss(z, t).mean())
            memory = jax.jit(step).lower(*specs).compile().memory_analysis()
            print(json.dumps([case, dtype, memory.temp_size_in_bytes]), flush=True)


def results(platform: str) -> Iterator[tuple[str, str, int]]:
    """(case, dtype, bytes) of one platform, from its own process."""
    command = [sys.executable, __file__, "--platform", platform]
    environment = os.environ | SETTINGS[platform]
    with (
        tempfile.TemporaryFile("w+") as log,  # compilers complain of the missing hardware
        subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        for line in process.stdout:
            if line.startswith("["):
                yield tuple(json.loads(line))
        if process.wait():
            log.seek(0)
            raise SystemExit(f"the compiler for {platform} failed:\n{log.read()}")


def missing(platform: str) -> str | None:
    """What to install, where a compiler is not there."""
    try:
        for package in PACKAGES[platform]:
            importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        command = INSTALL[platform].format(importlib.metadata.version("jax"))
        return f"{NAMES[platform]}: {error.name} is not installed; {command}"
    return None


def environment() -> str:
    import xent_jax

    packages = ["jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "optax"]
    versions = [f"{p} {importlib.metadata.version(p)}" for p in packages]
    return f"{datetime.date.today()}; {', '.join(versions)}, xent_jax {xent_jax.__version__}"


def table(temps: dict) -> tuple[list[str], list[list[str]]]:
    """Head and rows: MiB, and % of the logits' bytes."""
    columns = [(platform, dtype) for platform in NAMES for dtype in DTYPES]
    head = ["program"] + [f"{NAMES[platform]}\n{dtype}" for platform, dtype in columns]
    rows = []
    for case in CASES:
        sizes = [(temps[p, case, d], N * K * (2 if d == "bfloat16" else 4)) for p, d in columns]
        rows.append([case] + [f"{t / 2**20:.2f} ({100 * t / b:.3g} %)" for t, b in sizes])
    return head, rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory on accelerators that are not there.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, metavar="DIR")
    parser.add_argument("--platform", choices=NAMES, help=argparse.SUPPRESS)  # the inner call
    options = parser.parse_args()
    if options.platform:
        return compile_all(options.platform)
    if lacking := [text for platform in NAMES if (text := missing(platform))]:
        raise SystemExit("\n".join(lacking))
    temps, console = {}, Console(width=max(Console().width, 150))
    with Progress(console=console) as progress:
        for platform, name in NAMES.items():
            task = progress.add_task(f"compile for {name}", total=len(CASES) * len(DTYPES))
            for case, dtype, size in results(platform):
                temps[platform, case, dtype] = size
                progress.advance(task)
    head, rows = table(temps)
    title = f"Temporary memory of value and gradient, mean over logits {N} x {K}, in MiB"
    title += " (% of the logits' bytes)"
    out = Table(*head, title=title)
    for row in rows:
        out.add_row(*row)
    console.print(out, environment(), sep="\n")
    lines = [[h.replace("\n", " ") for h in head], ["---"] + ["---:"] * (len(head) - 1), *rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = "From the compilers alone, with no accelerator present."
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "compile_only.md").write_text(
        f"# {title}\n\n{environment()}\n\n{note}\n\n{text}\n"
    )


if __name__ == "__main__":
    main()
