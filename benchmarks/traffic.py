"""What crosses devices, and the memory it takes: the losses on a mesh of data x model.

    pip install "xent-jax[bench]"
    pip install tokamax  # if wanted: a peer, for Python 3.12 or later
    python benchmarks/traffic.py [--quick] [--output DIR]

Each program gives the value and the gradients, laid out as the arguments are. It is compiled and
not run: its text says what is sent, and how often; the compiler counts the temporary memory. First
for eight devices made of one CPU, then, unless --quick, for eight TPU v5e, v5p and H100 by their
own compilers, and the head for 256 and 4096, beside what formulas and data sheets say. For these:

    pip install "jax[tpu]==V"                           # V: the version of jax in use
    pip install jax-cuda12-plugin==V jax-cuda12-pjrt==V

Bytes are payload per device: the result of a sum, a gather or an exchange, the operand of a
reduce-scatter, and each as often as it runs. What a ring sends is about twice a sum's payload.

Prints the tables and whether the targets are reached; writes traffic.md and traffic.png. About
five minutes, with --quick half of one.
"""

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import matplotlib
import numpy as np
from _collectives import collectives, grouped
from _mesh_programs import (
    CHUNK,
    FULLY_SHARDED,
    PROGRAMS,
    SHARDED,
    Program,
    compiled,
    programs,
    tokamax,
)
from _report import console, markdown, parser, run, show, verdict, versions, write
from _topologies import LARGE, PLANS, SITES, SMALL
from compile_only import missing
from jax.experimental import topologies
from rich.progress import Progress

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of backend

MIB = 2**20

# ---------------------------------------------------------------- in the process of one platform


def compile_all(name: str) -> None:
    """Prints a line of JSON for each program: what it is, its memory, its traffic or refusal."""
    site = SITES[name]
    topology = site.platform.topology
    found = topologies.get_topology_desc(**topology).devices if topology else jax.devices()
    for program in programs(site):
        try:
            out = compiled(program, site, np.array(found))
        except Exception as error:  # of whatever kind: the table names it
            line = [0, [], f"{type(error).__name__}: {error}"]
        else:
            rows = grouped(collectives(out.as_text(), site.axes()))
            line = [out.memory_analysis().temp_size_in_bytes, rows, ""]
        print(json.dumps([program.what, *line]), flush=True)


# ---------------------------------------------------------------- what comes of it


class Found(NamedTuple):
    """What a program takes of each device."""

    temp: int
    rows: list  # kind, axes, devices in a group, runs, bytes
    error: str

    def refused(self) -> str:
        """The error's name, if there was one."""
        return self.error.partition(":")[0]

    def bytes(self) -> int:
        """Payload per device."""
        return sum(row[-1] for row in self.rows)

    def described(self) -> str:
        """Kinds and axes, the most bytes first; or the error."""
        texts = [self.error.partition(". ")[0].splitlines()[0]] if self.error else []
        for kind, axes, _, runs, size in self.rows:
            times = f"{runs} x " if runs > 1 else ""
            texts.append(f"{times}{kind} over {axes}: {short(size)}")
        return "; ".join(texts)


def short(size: float) -> str:
    """As B to TB, of powers of ten."""
    for step, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size} B"


def results(name: str) -> Iterator[tuple[str, Found]]:
    """From the site's own process."""
    environment = os.environ | SITES[name].platform.settings
    command = [sys.executable, __file__, "--site", name]
    with (
        tempfile.TemporaryFile("w+") as log,  # compilers complain of the missing hardware
        subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        for line in process.stdout:
            if line.startswith("["):
                what, *rest = json.loads(line)
                yield what, Found(*rest)
        if process.wait():
            log.seek(0)
            raise SystemExit(f"the compiler for {name} failed:\n{log.read()}")


def cpu_table(found: dict[str, Found]) -> tuple[list[str], list[list[str]]]:
    head = ["value and gradients", "bytes per device", "temp MiB", "target", "what crosses"]
    lines = []
    for program in PROGRAMS:
        one = found[program.what]
        numbers = ["refused", ""] if one.error else [f"{one.bytes():,}", f"{one.temp / MIB:.1f}"]
        lines.append([program.what, *numbers, reached(program, one), one.described()])
    return head, lines


def topology_table(found: dict[str, dict[str, Found]]) -> tuple[list[str], list[list[str]]]:
    names = [name for name in found if SITES[name].programs == "main"]
    head = ["value and gradients"]
    for name in names:
        head += [f"{SITES[name].platform.name}\nper device", "temp\nMiB"]

    def cells(one: Found) -> list[str]:
        return [one.refused(), ""] if one.error else [short(one.bytes()), f"{one.temp / MIB:.1f}"]

    lines = []
    for program in programs(SITES[names[0]]):
        lines.append([program.what, *(c for n in names for c in cells(found[n][program.what]))])
    return head, lines


def plan_table(found: dict[str, dict[str, Found]]) -> tuple[list[str], list[list[str]]]:
    head = [
        "devices, data x model",
        "bytes by formula",
        "compiled",
        "fully sharded\nby formula",
        "compiled",
        "temp MiB",
    ]
    lines = []
    for name, plan in PLANS.items():
        data, model = plan.site.mesh
        line = [f"{plan.site.platform.name}, {data} x {model}"]
        for what, fully in ((SHARDED, False), (FULLY_SHARDED, True)):
            line += [f"{plan.bytes(fully):,}", f"{found[name][what].bytes():,}"]
        lines.append([*line, f"{found[name][SHARDED].temp / MIB:.0f}"])
    return head, lines


def time_table() -> tuple[list[str], list[list[str]]]:
    head = ["devices", "three products", "loss, over model", "dx, over model", "dW, over data"]
    lines = []
    for plan in PLANS.values():
        seconds = plan.seconds()
        whole = seconds.pop("products")
        parts = [f"{duration(one)} ({percent(one / whole)})" for one in seconds.values()]
        lines.append([plan.site.platform.name, duration(whole), *parts])
    return head, lines


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def duration(seconds: float) -> str:
    """In milliseconds or microseconds."""
    return f"{1e3 * seconds:.2f} ms" if seconds >= 1e-4 else f"{1e6 * seconds:.1f} us"


def reached(program: Program, one: Found) -> str:
    """Whether the target is, if there is one."""
    size = math.inf if one.error else one.bytes()
    return verdict(size, program.target) if program.target else ""


def judged(found: dict[str, dict[str, Found]]) -> list[str]:
    """Each target on the CPU, and whether it is reached; whether the formulas were right."""
    lines = []
    for program in PROGRAMS:
        if program.target:
            one = found["cpu"][program.what]
            lines.append(
                f"{program.what}: {one.refused() or format(one.bytes(), ',')} bytes per device, "
                f"target {program.target:,}: {reached(program, one)}"
            )
    off = [
        abs(found[name][what].bytes() / plan.bytes(fully) - 1)
        for name, plan in PLANS.items()
        if name in found
        for what, fully in ((SHARDED, False), (FULLY_SHARDED, True))
    ]
    if off:
        lines.append(
            "256 and 4096 devices: compiled bytes differ from the formula's by at most "
            f"{max(off):.1e} of them, target 1e-3: {verdict(max(off), 1e-3)}"
        )
    return lines


COLORS = {"loss": "tab:blue", "head": "tab:blue", "optax": "tab:orange", "tokamax": "tab:green"}


def plot(found: dict[str, Found], path: Path) -> None:
    """Bytes and memory; nothing else so far apart would fit on one axis that is not logarithmic."""
    figure, (sent, temp) = plt.subplots(
        1, 2, figsize=(13, 6.5), layout="constrained", sharey=True, width_ratios=(3, 2)
    )
    rows = [found[program.what] for program in PROGRAMS]
    targets = [program.target or 0 for program in PROGRAMS]
    sent.set(title="sent between devices, bytes per device", xscale="log", xlim=(1e3, 1e12))
    temp.set(title="temporary memory per device, MiB", xscale="log", xlim=(1e-2, 3e3))
    bars(sent, rows, [row.bytes() for row in rows], targets, short)
    bars(temp, rows, [row.temp / MIB for row in rows], [0] * len(rows), "{:.3g}".format)
    sent.set_yticks(range(len(rows)), [program.what for program in PROGRAMS])
    sent.invert_yaxis()
    sent.legend(loc="upper right")
    figure.suptitle(f"Value and gradients on eight devices, 2 data x 4 model, {SMALL}")
    figure.savefig(path, dpi=130)


def bars(axes, rows, values: list[float], targets: list[int], label: Callable) -> None:
    colors = [COLORS[program.what.split()[0].strip(",")] for program in PROGRAMS]
    axes.barh(range(len(rows)), values, 0.7, color=colors)
    axes.grid(alpha=0.3, axis="x")
    named = "the target"
    for i, (row, value, target) in enumerate(zip(rows, values, targets, strict=True)):
        text = row.refused() or label(value)
        end = max(value, target) or axes.get_xlim()[0]  # an error has no bar
        axes.annotate(text, (end, i), (5, 0), textcoords="offset points", va="center")
        if target:
            axes.vlines(target, i - 0.45, i + 0.45, color="tab:red", lw=2.5, label=named)
            named = None
    first = next(i for i, program in enumerate(PROGRAMS) if "kernel" in program.layout)
    axes.axhline(first - 0.5, color="0.6", lw=0.8)  # losses of logits, then of a linear layer


NOTES = f"""Automatic: the compiler divides the program. Explicit: JAX does, by the types that
`jax.make_mesh` gives. Bytes are payload: of a sum what it gives; a ring sends about twice that.
Without shard_map chunks, here of {CHUNK} tokens, cut through the shares of the devices, and what is
cut is gathered, again for every chunk. Temporary memory: the head's own chunk, by default, is all
that a device has here; with chunks of {CHUNK} it needs less."""
PLANNED = """A head of about the size of Llama 3 70B's, D=8192 and V=131072, in bfloat16, with
8192 tokens for each of the data shards. By formula: 4 numbers for each token, in float32, and dx
over model, dW over data, both in bfloat16; fully sharded, the kernel besides. Times are
bounds from data sheets (their links at full speed, a ring's 2(k - 1)/k of the
payload; products at peak), not measurements; in brackets, over the products. The
sum of dW can hide behind the backward of the rest of the network. Sources:
`benchmarks/_topologies.py`."""


def tables(found: dict[str, dict[str, Found]]) -> dict[str, tuple]:
    """Title to head, lines and how many columns are texts."""
    out = {f"Eight CPU devices, 2 x 4, {SMALL}": cpu_table(found["cpu"])}
    if len(found) > 1:
        out[f"Eight accelerators, 2 x 4, {LARGE}"] = topology_table(found)
        out["The head on 256 and 4096 devices: bytes per device"] = plan_table(found)
        out["The head on 256 and 4096 devices: time per step by the data sheets"] = time_table()
    return out


def lacking(sites: list[str]) -> list[str]:
    """What to install, each thing once."""
    platforms = {SITES[name].platform.packages: SITES[name].platform for name in reversed(sites)}
    return [text for platform in platforms.values() if (text := missing(platform))]


def main() -> None:
    options = parser("What the losses send between devices.")
    options.add_argument("--quick", action="store_true", help="eight devices of the CPU alone")
    options.add_argument("--site", choices=SITES, help=argparse.SUPPRESS)  # the inner call
    options = options.parse_args()
    if options.site:
        return compile_all(options.site)
    sites = ["cpu"] if options.quick else list(SITES)
    if texts := lacking(sites):
        raise SystemExit("\n".join([*texts, "or, for the CPU alone: --quick"]))
    found, out = {}, console(170)
    with Progress(console=out) as progress:
        for name in sites:
            site = SITES[name]
            task = progress.add_task(f"compile for {site.platform.name}", total=len(programs(site)))
            found[name] = {}
            for what, one in results(name):
                found[name][what] = one
                progress.advance(task)
    packages = ["jax", "jaxlib", "optax", *(["tokamax"] if tokamax else [])]
    packages += [] if options.quick else ["libtpu", "jax-cuda12-pjrt"]
    where, lines = f"{datetime.date.today()}; {versions(*packages)}", judged(found)
    parts = ["# What crosses devices", where, "\n".join(f"- {line}" for line in lines), NOTES]
    for title, table in tables(found).items():
        show(out, title, *table)
        parts.append(f"## {title}\n\n{markdown(*table)}")
    out.print(where, *lines, sep="\n")
    write(options.output / "traffic.md", [*parts, *([] if options.quick else [PLANNED])])
    plot(found["cpu"], options.output / "traffic.png")


if __name__ == "__main__":
    run(main)
