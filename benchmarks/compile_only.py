"""Temporary memory of the losses on TPU v5e, TPU v6e and H100, without the hardware.

    pip install "jax[tpu]==V"                           # V: the version of jax in use
    pip install jax-cuda12-plugin==V jax-cuda12-pjrt==V
    pip install "xent-jax[bench]"
    pip install tokamax  # if wanted: a peer, for Python 3.12 or later
    python benchmarks/compile_only.py [--quick] [--output DIR]

The compilers run without the hardware and state the memory that a program needs beside its
arguments and results. They give neither times nor results. The compiler for H100 would tune its
kernels on the device; here it uses its defaults. Temporary memory changes with the version of the
compiler.

Prints three tables, of losses of logits, of the linear head and of large vocabularies, and
whether the targets are reached; writes compile_only.png and a section of report.md. About eight
minutes; with --quick, in bfloat16 only, half of that. A compiler that is not installed is left
out.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from _compilers import PLATFORMS, answers, lacking
from _losses import LEFT_OUT, MIB, head, held, of_optax, of_tokamax, ours, room, tokamax
from _report import console, not_here, parser, publish, run, target, with_targets
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.progress import Progress

import xent_jax

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of backend

N, D, V = 8192, 2048, 32768  # logits well above what a TPU would move to its fast memory
LARGE = (32768, 2560, 128256), (8192, 4096, 128256)
DTYPES = ("bfloat16", "float32")
HEAD, TIED = "head, mean", 'head, mean, tied embeddings, kernel_axes="VD"'
# MiB in bfloat16: the sum of the kernel's gradient, which NOTES explain, and on the H100 one dz.
VALUE_ALONE = ": value alone"
OF_LOGITS = 1  # % of the logits, for integer labels
TARGETS = {(p, h): size for h in (HEAD, TIED) for p, size in {"v5e": 256, "h100": 290}.items()}


class Program(NamedTuple):
    """What is compiled: a function, the names of its arguments, and the sizes N, D and V."""

    what: str
    function: Callable
    arguments: tuple[str, ...]
    size: tuple[int, int, int] = (N, D, V)

    def shapes(self, dtype: str) -> list[tuple]:
        """Returns shape and dtype of each argument."""
        n, d, v = self.size
        known = {
            "logits": ((n, v), dtype),
            "labels": ((n,), "int32"),
            "soft labels": ((n, v), "float32"),
            "inputs": ((n, d), dtype),
            "kernel": ((d, v), dtype),
            "embedding": ((v, d), dtype),
            "bias": ((v,), dtype),
            "cotangents": ((n,), "float32"),
            "mask": ((n,), "bool"),
        }
        return [known[name] for name in self.arguments]


def of_logits() -> list[Program]:
    name = "softmax_cross_entropy_with_integer_labels"
    options = {"ignore_index": -100, "label_smoothing": 0.1, "z_loss": 1e-4, "reduction": "mean"}
    losses = {
        "xent_jax, integer labels": ours,
        "xent_jax, integer labels, options ignore_index, label_smoothing, z_loss": (
            lambda z, y: ours(z, y, **options)
        ),
        "xent_jax, soft labels": xent_jax.softmax_cross_entropy,
        "xent_jax.forward_mode, integer labels": getattr(xent_jax.forward_mode, name),
        "optax, integer labels": of_optax,
        "optax, integer labels, logits cast to float32": (
            lambda z, y: of_optax(z.astype(jnp.float32), y)
        ),
        "optax, soft labels": optax.softmax_cross_entropy,
    }

    def programs(what, loss):
        def mean(z, t):
            return loss(z, t).mean()

        names = ("logits", "soft labels" if "soft" in what else "labels")
        yield Program(what, jax.value_and_grad(mean), names)
        if "options" not in what and "forward_mode" not in what:
            yield Program(f"{what}{VALUE_ALONE}", mean, names)

    return [program for item in losses.items() for program in programs(*item)]


def of_inputs() -> list[Program]:
    """Returns the linear head and its peers, with gradients to inputs, kernel and bias."""
    names = ("inputs", "kernel", "labels")
    options = {"label_smoothing": 0.1, "z_loss": 1e-4, "logit_softcap": 30.0}

    def pulled_back(x, w, y, g):
        losses, pull = jax.vjp(lambda x, w: head(x, w, y, reduction="none"), x, w)
        return losses, pull(g)

    def with_bias(x, w, b, y):
        return head(x, w, y, b, **options)

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
        program("logits, optax", held(of_optax)),
        program("logits cast to float32, optax", held(of_optax, jnp.float32)),
        *([program("tokamax head, chunked_xla", of_tokamax)] if tokamax else []),
    ]


def of_large_vocabularies() -> list[Program]:
    """Returns heads with a vocabulary of 128k, at the default chunk and at others."""

    def chunked(x, w, y):
        def loss(w, x, y):
            return ours(jnp.dot(x, w, preferred_element_type=jnp.float32), y)

        return xent_jax.chunked_loss(loss)(w, x, y)

    def program(what, loss, size, *more):
        function = jax.value_and_grad(loss, (0, 1))
        n, d, _ = size
        return Program(
            f"{what}, N={n} D={d}", function, ("inputs", "kernel", "labels", *more), size
        )

    def of(size):
        n, d, v = size
        default = xent_jax.linear_head_plan(
            *(jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((n, d), (d, v)))
        )
        small = partial(head, **room(512, v))
        return [
            program(f"head, the default {default.chunk} tokens a chunk", head, size),
            program("head, 512 tokens a chunk", small, size),
            program("head, some left out by where", lambda x, w, y, m: head(x, w, y, where=m), size,
                    "mask"),
            program("chunked_loss", chunked, size),
        ]  # fmt: skip

    return [one for size in LARGE for one in of(size)]


NOTES = """In bfloat16 256 MiB of the head's are the sum of the kernel's gradient, in float32.
In float32 that sum is the result itself. There a TPU, which multiplies in bfloat16 unless told
otherwise, keeps a copy of the kernel in it, 128 MiB."""


class Study(NamedTuple):
    """One of the tables."""

    title: str
    platforms: tuple[str, ...]
    programs: list[Program]
    share: bool  # show the share of the logits' bytes


STUDIES = [
    Study(
        f"Temporary memory of value and gradient, or value alone, mean over logits {N} x {V}, in "
        "MiB (% of the logits' bytes)",
        ("v5e", "v6e", "h100"),
        of_logits(),
        share=True,
    ),
    Study(
        f"Temporary memory of value and gradients of the linear head, N={N} D={D} V={V}, in MiB",
        ("v5e", "v6e", "h100"),
        of_inputs(),
        share=False,
    ),
    Study(
        f"Temporary memory of value and gradients of the linear head, V={LARGE[0][2]}, in MiB",
        ("v5e", "v6e", "h100"),
        of_large_vocabularies(),
        share=False,
    ),
]


def programs(platform: str) -> list[Program]:
    """All programs that are compiled for it."""
    return [p for study in STUDIES if platform in study.platforms for p in study.programs]


def compile_all(platform: str, dtypes: tuple[str, ...]) -> None:
    """Compiles the programs of one platform in its process; prints a JSON line for each."""
    topology = topologies.get_topology_desc(**PLATFORMS[platform].topology)
    sharding = NamedSharding(Mesh(np.array(topology.devices[:1]), ("x",)), PartitionSpec())
    for program in programs(platform):
        for dtype in dtypes:
            known = program.shapes(dtype)
            specs = [jax.ShapeDtypeStruct(*one, sharding=sharding) for one in known]
            compiled = jax.jit(program.function).lower(*specs).compile()
            temp = compiled.memory_analysis().temp_size_in_bytes
            print(json.dumps([program.what, dtype, temp]), flush=True)


def table(study: Study, temps: dict) -> tuple[list[str], list[list[str]]]:
    """Returns head and rows: MiB, and % of the logits' bytes if the logits are an argument."""

    def cell(platform, what, dtype):
        size = temps[platform, what, dtype]
        return f"{size / MIB:.2f}" + (f" ({share(size, dtype):.3g} %)" if study.share else "")

    found = dict.fromkeys((platform, dtype) for platform, _, dtype in temps)
    columns = [(platform, dtype) for platform, dtype in found if platform in study.platforms]
    head = ["program"] + [f"{PLATFORMS[platform].name}\n{dtype}" for platform, dtype in columns]
    rows = [[p.what] + [cell(x, p.what, dtype) for x, dtype in columns] for p in study.programs]
    return head, rows


def summary(temps: dict) -> list[list[str]]:
    """Returns each target, and whether it is reached."""
    of_logits = [
        target(
            f"{PLATFORMS[platform].name}: largest of the losses of logits with integer labels, %",
            max(
                share(size, dtype)
                for (on, what, dtype), size in temps.items()
                if on == platform and what.startswith("xent_jax, integer")
            ),
            OF_LOGITS,
        )
        for platform in dict.fromkeys(on for on, _, _ in temps)
    ]
    return of_logits + [
        target(f"{what}, bfloat16, {PLATFORMS[platform].name}, MiB", found / MIB, limit, ".2f")
        for (platform, what), limit in TARGETS.items()
        if (found := temps.get((platform, what, "bfloat16"))) is not None
    ]


def share(size: int, dtype: str) -> float:
    """Returns bytes in % of the logits' bytes."""
    return 100 * size / (N * V * jnp.dtype(dtype).itemsize)


def plot(head: list[str], rows: list[list[str]], path: Path) -> None:
    """Draws the linear head's table in bfloat16, with a bar for each platform."""
    columns = [i for i, title in enumerate(head) if title.endswith("bfloat16")]
    figure, axes = plt.subplots(figsize=(11, 7), layout="constrained")
    height, places = 0.8 / len(columns), np.arange(len(rows))
    for shift, column in enumerate(columns):
        sizes = [float(row[column]) for row in rows]
        label = head[column].split("\n")[0]
        bars = axes.barh(places + (shift + 0.5) * height - 0.4, sizes, height, label=label)
        axes.bar_label(bars, [f"{size:.0f}" for size in sizes], padding=3, fontsize=8)
    axes.set_yticks(places, [row[0].replace(", label", ",\nlabel") for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set(title=f"Linear head, bfloat16, N={N} D={D} V={V}", xlabel="temporary memory, MiB")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(loc="center right")
    figure.savefig(path, dpi=130)


def main() -> None:
    options = parser("Memory on accelerators that are not there.", "bfloat16 alone")
    options.add_argument("--platform", choices=PLATFORMS, help=argparse.SUPPRESS)  # the inner call
    options = options.parse_args()
    if options.platform:
        return compile_all(options.platform, DTYPES[:1] if options.quick else DTYPES)
    names, left_out = lacking(PLATFORMS)
    if not names:
        return not_here("compile_only", options, left_out)
    temps, quick = {}, ["--quick"] if options.quick else []
    with Progress(console=console()) as progress:
        for name in names:
            platform = PLATFORMS[name]
            count = len(programs(name)) * (1 if options.quick else len(DTYPES))
            task = progress.add_task(f"compile for {platform.name}", total=count)
            for what, dtype, size in answers(__file__, [*quick, "--platform", name], platform):
                temps[name, what, dtype] = size
                progress.advance(task)
    tables = {study.title: table(study, temps) for study in STUDIES}
    folder = publish(
        "compile_only",
        options,
        with_targets(summary(temps), tables),
        title="Memory on accelerators",
        question="How much temporary memory do the compilers for TPUs and for the H100 ask for?",
        notes=NOTES,
        left_out=left_out + LEFT_OUT,
    )
    plot(*tables[STUDIES[1].title], folder / "compile_only.png")


if __name__ == "__main__":
    run(main)
