"""Temporary memory of value and gradient on TPU v5e and v6e and an H100, with none at hand.

    pip install "jax[tpu]==V"                           # V: the version of jax in use
    pip install jax-cuda12-plugin==V jax-cuda12-pjrt==V
    pip install "xent-jax[bench]"
    pip install tokamax  # if wanted: a peer, for Python 3.12 or later
    python benchmarks/compile_only.py [--output DIR]

Their compilers run without the hardware and state the memory that a program needs beside its
arguments and results. They give neither times nor numbers. The H100's compiler would tune its
kernels on the device, here it takes its defaults; temporary memory changes with the
compiler's version.

Prints two tables, of losses of logits and of the linear head, and whether the head's targets
are reached; writes compile_only.md. About six minutes.
"""

import argparse
import datetime
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _report import console, markdown, parser, run, show, verdict, versions, write
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.progress import Progress

import xent_jax

try:
    import tokamax

    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of every shape not tuned for
except ImportError:
    tokamax = None

MIB = 2**20
N, D, V = 8192, 2048, 32768  # logits well above what a TPU would move to its fast memory
DTYPES = ("bfloat16", "float32")
HEAD, TIED = "head, mean", 'head, mean, tied embeddings, kernel_axes="VD"'
# MiB in bfloat16: the sum of the kernel's gradient, which NOTES explain, and on the H100 one dz.
TARGETS = {(p, h): size for h in (HEAD, TIED) for p, size in {"v5e": 256, "h100": 290}.items()}
CUDA = "jax-cuda12-plugin", "jax-cuda12-pjrt"


class Platform(NamedTuple):
    """An accelerator to compile for, in a process of its own: JAX reads the settings once."""

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


class Program(NamedTuple):
    """What is compiled: a function, and the names of its arguments."""

    what: str
    function: Callable
    arguments: tuple[str, ...]


def shapes(dtype: str) -> dict[str, tuple]:
    """Shape and dtype of the arguments."""
    return {
        "logits": ((N, V), dtype),
        "labels": ((N,), "int32"),
        "soft labels": ((N, V), "float32"),
        "inputs": ((N, D), dtype),
        "kernel": ((D, V), dtype),
        "embedding": ((V, D), dtype),
        "bias": ((V,), dtype),
        "cotangents": ((N,), "float32"),
    }


def of_logits() -> list[Program]:
    name = "softmax_cross_entropy_with_integer_labels"
    ours, theirs = getattr(xent_jax, name), getattr(optax, name)
    options = {"ignore_index": -100, "label_smoothing": 0.1, "z_loss": 1e-4, "reduction": "mean"}
    losses = {
        "xent_jax, integer labels": ours,
        "xent_jax, integer labels, ignore_index, label_smoothing, z_loss": (
            lambda z, y: ours(z, y, **options)
        ),
        "xent_jax, soft labels": xent_jax.softmax_cross_entropy,
        "xent_jax.forward_mode, integer labels": getattr(xent_jax.forward_mode, name),
        "optax, integer labels": theirs,
        "optax, integer labels, logits cast to float32": (
            lambda z, y: theirs(z.astype(jnp.float32), y)
        ),
        "optax, soft labels": optax.softmax_cross_entropy,
    }

    def program(what, loss):
        step = jax.value_and_grad(lambda z, t: loss(z, t).mean())
        return Program(what, step, ("logits", "soft labels" if "soft" in what else "labels"))

    return [program(*item) for item in losses.items()]


def of_inputs() -> list[Program]:
    """The linear head and its peers, with gradients to the inputs, the kernel and the bias."""
    head, names = xent_jax.linear_softmax_cross_entropy, ("inputs", "kernel", "labels")
    options = {"label_smoothing": 0.1, "z_loss": 1e-4, "logit_softcap": 30.0}

    def pulled_back(x, w, y, g):
        losses, pull = jax.vjp(lambda x, w: head(x, w, y, reduction="none"), x, w)
        return losses, pull(g)

    def with_bias(x, w, b, y):
        return head(x, w, y, b, **options)

    def with_optax(x, w, y, dtype=None):
        z = jnp.asarray(x @ w, dtype)
        return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()

    def with_tokamax(x, w, y):
        return tokamax.linear_softmax_cross_entropy_loss(
            x, y, w, reduction="mean", implementation="chunked_xla"
        )

    def program(what, loss, names=names):
        return Program(what, jax.value_and_grad(loss, tuple(range(len(names) - 1))), names)

    tied, biased = ("inputs", "embedding", "labels"), ("inputs", "kernel", "bias", "labels")
    return [
        program(HEAD, head),
        program(f"{HEAD}, bias, label_smoothing, z_loss, logit_softcap", with_bias, biased),
        Program('head, reduction "none"', pulled_back, (*names, "cotangents")),
        Program("head, value alone", head, names),
        program(TIED, partial(head, kernel_axes="VD"), tied),
        program("head, mean, tied embeddings, embedding.T", lambda x, e, y: head(x, e.T, y), tied),
        program("logits, optax", with_optax),
        program("logits cast to float32, optax", partial(with_optax, dtype=jnp.float32)),
        *([program("tokamax head, chunked_xla", with_tokamax)] if tokamax else []),
    ]


NOTES = """In bfloat16 256 MiB of the head's are the sum of the kernel's gradient, in float32.
In float32 that sum is the result itself. There a TPU, which multiplies in bfloat16 unless told
otherwise, keeps a copy of the kernel in it, 128 MiB."""


class Study(NamedTuple):
    """A table."""

    title: str
    platforms: tuple[str, ...]
    programs: list[Program]
    share: bool  # show the share of the logits' bytes


STUDIES = [
    Study(
        f"Temporary memory of value and gradient, mean over logits {N} x {V}, in MiB "
        "(% of the logits' bytes)",
        ("v5e", "h100"),
        of_logits(),
        share=True,
    ),
    Study(
        f"Temporary memory of value and gradients of the linear head, N={N} D={D} V={V}, in MiB",
        ("v5e", "v6e", "h100"),
        of_inputs(),
        share=False,
    ),
]


def programs(platform: str) -> list[Program]:
    """All that are compiled for it."""
    return [p for study in STUDIES if platform in study.platforms for p in study.programs]


def compile_all(platform: str) -> None:
    """In the process of one platform: compiles its programs, prints a line of JSON for each."""
    topology = topologies.get_topology_desc(**PLATFORMS[platform].topology)
    sharding = NamedSharding(Mesh(np.array(topology.devices[:1]), ("x",)), PartitionSpec())
    for program in programs(platform):
        for dtype in DTYPES:
            known = [shapes(dtype)[name] for name in program.arguments]
            specs = [jax.ShapeDtypeStruct(*one, sharding=sharding) for one in known]
            compiled = jax.jit(program.function).lower(*specs).compile()
            temp = compiled.memory_analysis().temp_size_in_bytes
            print(json.dumps([program.what, dtype, temp]), flush=True)


def results(platform: str) -> Iterator[tuple[str, str, int]]:
    """(program, dtype, bytes) of one platform, from its own process."""
    command = [sys.executable, __file__, "--platform", platform]
    environment = os.environ | PLATFORMS[platform].settings
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


def missing(platform: Platform) -> str | None:
    """What to install, where a compiler is not there."""
    try:
        for package in platform.packages:
            importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        command = platform.install.format(importlib.metadata.version("jax"))
        return f"{platform.name}: {error.name} is not installed; {command}"
    return None


def table(study: Study, temps: dict) -> tuple[list[str], list[list[str]]]:
    """Head and rows: MiB, and % of the logits' bytes where they are an argument."""

    def cell(platform, what, dtype):
        size = temps[platform, what, dtype]
        share = 100 * size / (N * V * jnp.dtype(dtype).itemsize)
        return f"{size / MIB:.2f}" + (f" ({share:.3g} %)" if study.share else "")

    columns = [(platform, dtype) for platform in study.platforms for dtype in DTYPES]
    head = ["program"] + [f"{PLATFORMS[platform].name}\n{dtype}" for platform, dtype in columns]
    rows = [[p.what] + [cell(x, p.what, dtype) for x, dtype in columns] for p in study.programs]
    return head, rows


def judged(temps: dict) -> list[str]:
    """Each target, and whether it is reached."""
    found = {key: temps[*key, "bfloat16"] / MIB for key in TARGETS}
    return [
        f"{what}, bfloat16, {PLATFORMS[platform].name}: {found[platform, what]:.2f} MiB, "
        f"target {target}: {verdict(found[platform, what], target)}"
        for (platform, what), target in TARGETS.items()
    ]


def main() -> None:
    options = parser("Memory on accelerators that are not there.")
    options.add_argument("--platform", choices=PLATFORMS, help=argparse.SUPPRESS)  # the inner call
    options = options.parse_args()
    if options.platform:
        return compile_all(options.platform)
    if lacking := [text for platform in PLATFORMS.values() if (text := missing(platform))]:
        raise SystemExit("\n".join(lacking))
    temps, out = {}, console(150)
    with Progress(console=out) as progress:
        for key, platform in PLATFORMS.items():
            count = len(programs(key)) * len(DTYPES)
            task = progress.add_task(f"compile for {platform.name}", total=count)
            for what, dtype, size in results(key):
                temps[key, what, dtype] = size
                progress.advance(task)
    packages = ["jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "optax"]
    where = f"{datetime.date.today()}; {versions(*packages, *(['tokamax'] if tokamax else []))}"
    lines = judged(temps)
    parts = ["# Memory on accelerators, from their compilers alone", where]
    parts += ["\n".join(f"- {line}" for line in lines), NOTES]
    for study in STUDIES:
        head, rows = table(study, temps)
        show(out, study.title, head, rows)
        parts.append(f"## {study.title}\n\n{markdown(head, rows)}")
    out.print(where, *lines, sep="\n")
    write(options.output / "compile_only.md", parts)


if __name__ == "__main__":
    run(main)
