"""Traffic between the devices of a mesh with the axes data and model, and memory on them.

Each program computes the value and the gradients, which are sharded as the arguments. It is
compiled and not run. Bytes are payload per device: the result of a sum, a gather or an exchange,
and the operand of a reduce-scatter, each as often as it runs; a ring sends about twice the payload
of a sum. The devices are eight simulated ones of a CPU and, unless --quick, eight TPU v5e, v5p and
H100, whose compilers are left out where they are not installed.

The logits are sharded over both axes, the inputs of a head over data, its kernel over model, or
over both if it is fully sharded. In automatic programs, the compiler shards the program. In
explicit ones, JAX does, by the types that `jax.make_mesh` gives. Without shard_map, the chunks,
here of 256 tokens, are not aligned with the shards, and arrays are gathered again for every chunk.
By default, the head's chunk holds all tokens that a device has here; with chunks of 256 it needs
less memory.

The meshes of 256 and 4096 devices have a head of about the size of Llama 3 70B's, D=8192 and
V=131072, in bfloat16, with 8192 tokens in each data shard. The formula counts 3 float32 numbers per
token and dx over model, dW over data, both in bfloat16, and the kernel if it is fully sharded.
Times are bounds from data sheets, not measurements: links at full speed, 2(k - 1)/k of the payload
for a ring, and products at peak. Shares are in % of the time of the products. The sum of dW can
overlap with the backward pass of the rest of the network. Sources: `benchmarks/_plans.py`.
"""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

import xent_jax
from benchmarks._collectives import collectives, grouped
from benchmarks._compilers import AXES, Platform, arguments, compile_for, h100, mesh_on, tpu
from benchmarks._peers import LEFT_OUT, TOKAMAX, chunked, head, held, mean, of_optax, ours, room
from benchmarks._plans import PLANS
from benchmarks._records import Record, find, records, target
from benchmarks._running import Benchmark, temp_mib

SMALL = 2048, 512, 32768
# Each device holds as much as one does in compile_only.py: well above a TPU's fast memory.
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
CHUNK = 256  # tokens at a time, where a program is told how many
BOTH, TOKENS, KERNEL, WHOLE = P("data", "model"), P("data"), P(None, "model"), P()


class Program(NamedTuple):
    """A mean loss to compile, with its gradients, for the mesh that ``jax.set_mesh`` sets."""

    what: str
    loss: Callable
    layout: dict[str, P]  # of the arguments but the labels, by letters as in _compilers
    target: int | None = None  # bytes per device on the CPU
    explicit: bool = False  # whether mesh axes are explicit, as in jax.make_mesh
    only_cpu: bool = False
    planned: bool = False  # whether to compile it for the large meshes too


def mapped(loss: Callable, *layout: P) -> Callable:
    """Returns a loss in a ``shard_map``; each device calls it with its own shards."""
    local = partial(loss, axis_name="model", batch_axis_name="data")
    return jax.shard_map(local, in_specs=(*layout, TOKENS), out_specs=WHOLE)


sharded = partial(xent_jax.shard_linear_head, head, inputs=TOKENS)


def sharded_in_chunks(x, w, y):
    classes = w.shape[1] // jax.sharding.get_abstract_mesh().shape["model"]
    return sharded(kernel=KERNEL)(x, w, y, **room(CHUNK, classes))


def over_parts(z, y):
    """Computes the loss of some tokens at a time, in parts that ignore the shards."""
    parts = z.reshape(-1, CHUNK, z.shape[1]), y.reshape(-1, CHUNK)
    return jax.lax.map(lambda part: jnp.sum(of_optax(*part)), parts).sum() / len(y)


# Targets in bytes: 24 per token; for heads, also dx and dW, and the kernel if fully sharded.
N, D, V = SMALL[0] // 2, SMALL[1], SMALL[2] // 4
LOSS, HEAD, FULLY = (24 * N + 4 * D * size for size in (0, N + V, N + 2 * V))
LOGITS = {"z": BOTH}
WEIGHTS = {"x": TOKENS, "w": KERNEL}
DIVIDED = WEIGHTS | {"w": BOTH}
SHARDED = "head, shard_linear_head"
FULLY_SHARDED = "head, shard_linear_head, kernel fully sharded"
our_mean = partial(ours, reduction="mean")
PROGRAMS = [
    Program("loss, automatic", our_mean, LOGITS, LOSS),
    Program("loss, explicit", our_mean, LOGITS, LOSS, explicit=True, only_cpu=True),
    Program("loss, in shard_map", mapped(our_mean, BOTH), LOGITS, LOSS),
    Program("optax loss, automatic", mean(of_optax), LOGITS),
    Program("optax loss, explicit", mean(of_optax), LOGITS, explicit=True, only_cpu=True),
    Program(f"optax loss, automatic, lax.map over {CHUNK}", over_parts, LOGITS, only_cpu=True),
    Program(SHARDED, sharded(kernel=KERNEL), WEIGHTS, HEAD, planned=True),
    Program(f"{SHARDED}, chunks of {CHUNK}", sharded_in_chunks, WEIGHTS, HEAD),
    Program("head, in shard_map", mapped(head, TOKENS, KERNEL), WEIGHTS, HEAD),
    Program(FULLY_SHARDED, sharded(kernel=BOTH), DIVIDED, FULLY, planned=True),
    Program(f"head, automatic, chunks of {CHUNK}", chunked(CHUNK), WEIGHTS),
    Program("optax of held logits, automatic", held(of_optax, jnp.float32), WEIGHTS),
    *(Program(f"{name}, automatic", loss, WEIGHTS) for name, loss in TOKAMAX.items()),
]


def compiled(program: Program, platform: Platform, shape: tuple[int, int], size: tuple, dtype: str):
    """Compiles value and gradients for a mesh; each gradient is sharded as its argument."""
    mesh = mesh_on(platform, shape, program.explicit)
    known = arguments(program.layout | {"y": TOKENS}, mesh, size, dtype)
    step = jax.value_and_grad(program.loss, tuple(range(len(program.layout))))
    results = None if program.explicit else (WHOLE, tuple(program.layout.values()))
    with jax.set_mesh(mesh):
        return jax.jit(step, out_shardings=results).lower(*known).compile()


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
    except Exception as error:  # any kind of error: the table shows it
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
    planned = find(found, study="Planned bytes", unit="B")  # formula and compiled in turn
    pairs = zip(planned[::2], planned[1::2], strict=True)
    off = [abs(sent.value / formula.value - 1) for formula, sent in pairs]
    what = "256 and 4096 devices: compiled bytes less the formula's, over the formula's"
    return lines + ([target(what, max(off), 1e-3, "relative")] if off else [])


def measure(quick: bool) -> list[Record]:
    found = compile_for({"cpu": CPU} if quick else PLATFORMS, BENCHMARK, quick)
    return summary(found) + found


BENCHMARK = Benchmark("traffic", "Traffic between devices", __doc__, measure, inside, LEFT_OUT)
if __name__ == "__main__":
    BENCHMARK.main()
