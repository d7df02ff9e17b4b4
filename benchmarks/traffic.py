"""Traffic between devices, and memory: the losses on a mesh with the axes data and model.

    pip install "xent-jax[bench]"
    pip install tokamax  # if wanted: a peer, for Python 3.12 or later
    python benchmarks/traffic.py [--quick] [--output DIR]

Each program computes the value and the gradients, which are sharded as the arguments. It is
compiled and not run: its text says what is sent and how often, and the compiler states the
temporary memory. The devices are eight simulated ones of a CPU and, unless --quick, eight TPU v5e,
v5p and H100. The head is also compiled for 256 and 4096 devices, and compared with formulas and
data sheets. The accelerators need:

    pip install "jax[tpu]==V"                           # V: the version of jax in use
    pip install jax-cuda12-plugin==V jax-cuda12-pjrt==V

Bytes are payload per device: the result of a sum, a gather or an exchange, and the operand of a
reduce-scatter, each as often as it runs. A ring sends about twice the payload of a sum.

Prints the tables and whether the targets are reached; writes traffic.png and a section of
report.md. Takes about two minutes; with --quick, half a minute. A compiler that is not installed is
left out.
"""

import argparse
import json
import math

import jax
import numpy as np
from _collectives import collectives, grouped
from _compilers import answers, lacking
from _losses import LEFT_OUT
from _mesh_programs import PROGRAMS, compiled, programs
from _report import console, parser, publish, run, target, with_targets
from _topologies import PLANS, SITES
from _traffic_plot import plot
from _traffic_tables import NOTES, PLANNED, Found, planned_bytes, tables
from jax.experimental import topologies
from rich.progress import Progress


def compile_all(name: str) -> None:
    """Prints a JSON line for each program, with its memory and its traffic or error."""
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


def measure(names: list[str]) -> dict[str, dict[str, Found]]:
    """Returns, for each site, what each program needs there."""
    found = {}
    with Progress(console=console()) as progress:
        for name in names:
            site, found[name] = SITES[name], {}
            task = progress.add_task(f"compile for {site.platform.name}", total=len(programs(site)))
            for what, *rest in answers(__file__, ["--site", name], site.platform):
                found[name][what] = Found(*rest)
                progress.advance(task)
    return found


def summary(found: dict[str, dict[str, Found]]) -> list[list[str]]:
    """Returns each target on CPU and whether it is reached, and whether the formulas are right."""
    lines = []
    for program in PROGRAMS:
        if program.target:
            one = found["cpu"][program.what]
            size = math.inf if one.error else one.bytes()
            lines.append(target(f"{program.what}: bytes per device", size, program.target, ",.0f"))
    off = [abs(compiled / formula - 1) for _, formula, compiled in planned_bytes(found)]
    if off:
        what = "256 and 4096 devices: compiled bytes less the formula's, over the formula's"
        lines.append(target(what, max(off), 1e-3, ".1e"))
    return lines


def main() -> None:
    options = parser("What the losses send between devices.", "eight devices of the CPU alone")
    options.add_argument("--site", choices=SITES, help=argparse.SUPPRESS)  # the inner call
    options = options.parse_args()
    if options.site:
        return compile_all(options.site)
    names, left_out = lacking({name: site.platform for name, site in SITES.items()})
    found = measure(["cpu"] if options.quick else names)
    planned = any(name in PLANS for name in found)
    folder = publish(
        "traffic",
        options,
        with_targets(summary(found), tables(found)),
        title="Traffic between devices",
        question="What do the devices of a mesh send each other, and how much memory does it take?",
        notes=NOTES + (f"\n\n{PLANNED}" if planned else ""),
        left_out=left_out + LEFT_OUT,
    )
    plot(found["cpu"], folder / "traffic.png")


if __name__ == "__main__":
    run(main)
