"""Traffic between the devices of a mesh with the axes data and model, and memory on them.

Each program computes the value and the gradients, which are sharded as the arguments. It is
compiled and not run. Bytes are payload per device: the result of a sum, a gather or an exchange,
and the operand of a reduce-scatter, each as often as it runs; a ring sends about twice the payload
of a sum. The devices are eight simulated ones of a CPU and, unless --quick, eight TPU v5e, v5p and
H100, whose compilers are left out where they are not installed.

In automatic programs, the compiler shards the program. In explicit ones, JAX does, by the types
that `jax.make_mesh` gives. Without shard_map, the chunks, here of 256 tokens, are not aligned with
the shards, and arrays are gathered again for every chunk. By default, the head's chunk holds all
tokens that a device has here; with chunks of 256 it needs less memory.

The meshes of 256 and 4096 devices have a head of about the size of Llama 3 70B's, D=8192 and
V=131072, in bfloat16, with 8192 tokens in each data shard. The formula counts 3 float32 numbers per
token and dx over model, dW over data, both in bfloat16, and the kernel if it is fully sharded.
Times are bounds from data sheets, not measurements: links at full speed, 2(k - 1)/k of the payload
for a ring, and products at peak. Shares are in % of the time of the products. The sum of dW can
overlap with the backward pass of the rest of the network. Sources: `benchmarks/_plans.py`.
"""

from math import inf

from benchmarks._collectives import collectives, grouped
from benchmarks._compilers import AXES, Platform, compile_for, h100, tpu
from benchmarks._peers import LEFT_OUT
from benchmarks._plans import PLANS
from benchmarks._records import Record, find, records, target
from benchmarks._running import Benchmark, temp_mib
from benchmarks._sharded import FULLY_SHARDED, PROGRAMS, SMALL, Program, compiled

# Each device holds what compile_only.py compiles for one, well above a TPU's fast memory.
LARGE = 16384, 2048, 131072
EIGHT = "--xla_force_host_platform_device_count=8"
CPU = Platform("CPU x 8", (), "", {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": EIGHT}, {})
SLICES = {"v5e": "2x4", "v5p": "2x2x2", "v5e 256": "16x16", "v5p 256": "4x8x8"}
SLICES["v5p 4096"] = "16x16x16"
NODES = {"h100": 1, "h100 256": 32, "h100 4096": 512}
PLATFORMS = {"cpu": CPU}
for name, chips in SLICES.items():
    PLATFORMS[name] = tpu(f"TPU {name[:3]} {chips}", f"{name[:3]}:{chips}", "v5litepod-8")
for name, nodes in NODES.items():
    PLATFORMS[name] = h100(f"H100 x {8 * nodes}", f"1x{nodes}x8")


def inside(name: str, quick: bool) -> list[Record]:
    """Compiles the programs of one platform."""
    planned = name in PLANS
    chosen = [p for p in PROGRAMS if (p.planned if planned else name == "cpu" or not p.only_cpu)]
    found = sum((measured(program, name) for program in chosen), [])
    return found + (PLANS[name].times(PLATFORMS[name].name) if planned else [])


def measured(program: Program, name: str) -> list[Record]:
    """Returns the memory of a program and what it sends, or why it is refused."""
    plan, on_cpu, device = PLANS.get(name), name == "cpu", PLATFORMS[name].name
    mesh, size = (2, 4), SMALL if on_cpu else LARGE
    if plan:
        mesh, size = (plan.data, plan.model), plan.size()
    dtype, study = ("float32", "CPU devices") if on_cpu else ("bfloat16", "accelerators")
    known = {"dtype": dtype, "shape": size}
    where = known | {"case": "" if on_cpu else device}
    try:
        out = compiled(program, PLATFORMS[name], mesh, size, dtype)
    except Exception as error:  # of whatever kind: the table names it
        why = f"{type(error).__name__}: {error}".partition(". ")[0].splitlines()[0]
        return records(study, program.what, {"bytes": None}, note=why, **where)
    groups = grouped(collectives(out.as_text(), dict(zip(AXES, mesh, strict=True))))
    sent, temp = sum(payload for *_, payload in groups), temp_mib(out)
    if plan:
        fully, where = program.what == FULLY_SHARDED, known | {"case": f"{mesh[0]} x {mesh[1]}"}
        prefix, temps = ("fully sharded, ", {}) if fully else ("", {"temp": temp})
        numbers = {f"{prefix}formula": plan.bytes(fully), f"{prefix}compiled": sent}
        found = records("Planned bytes", device, numbers, unit="B", **where)
        return found + records("Planned bytes", device, temps, **where)
    limits = {"bytes": program.target if on_cpu else None}
    found = records(study, program.what, {"bytes": sent, "temp": temp}, limits, **where)
    for kind, axes, _, runs, payload in groups if on_cpu else ():
        numbers, case = {"runs": runs, "bytes": payload}, {"case": f"{kind} over {axes}"}
        found += records("Crossing", program.what, numbers, **known | case)
    return found


def summary(found: list[Record]) -> list[Record]:
    """Returns the targets on the CPU, and whether the formulas are right."""
    lines = [
        target(f"{r.program}: bytes per device", inf if r.value is None else r.value, r.limit, "B")
        for r in find(found, study="CPU devices", metric="bytes")
        if r.limit
    ]
    planned = {(r.program, r.metric): r.value for r in find(found, study="Planned bytes")}
    off = [
        abs(planned[device, metric.replace("formula", "compiled")] / size - 1)
        for (device, metric), size in planned.items()
        if metric.endswith("formula")
    ]
    what = "256 and 4096 devices: compiled bytes less the formula's, over the formula's"
    return lines + ([target(what, max(off), 1e-3, "relative")] if off else [])


def measure(quick: bool) -> list[Record]:
    found = compile_for({"cpu": CPU} if quick else PLATFORMS, BENCHMARK, quick)
    return summary(found) + found


BENCHMARK = Benchmark("traffic", "Traffic between devices", __doc__, measure, inside, LEFT_OUT)
if __name__ == "__main__":
    BENCHMARK.main()
