"""The tables of traffic.py."""

import math
from typing import NamedTuple

from _losses import MIB
from _mesh_programs import CHUNK, FULLY_SHARDED, PROGRAMS, SHARDED, Program, programs
from _report import verdict
from _tables import short
from _topologies import LARGE, PLANS, SITES, SMALL


class Found(NamedTuple):
    """What a program needs on each device."""

    temp: int
    rows: list  # kind, axes, devices in a group, runs, bytes
    error: str

    def refused(self) -> str:
        """The name of the error, if there was one."""
        return self.error.partition(":")[0]

    def bytes(self) -> int:
        """The payload per device."""
        return sum(row[-1] for row in self.rows)

    def described(self) -> str:
        """Returns kinds and axes, the most bytes first; or the error."""
        texts = [self.error.partition(". ")[0].splitlines()[0]] if self.error else []
        for kind, axes, _, runs, size in self.rows:
            times = f"{runs} x " if runs > 1 else ""
            texts.append(f"{times}{kind} over {axes}: {short(size)}")
        return "; ".join(texts)


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
        if name not in found:
            continue
        data, model = plan.site.mesh
        line = [f"{plan.site.platform.name}, {data} x {model}"]
        for _, formula, compiled in planned_bytes({name: found[name]}):
            line += [f"{formula:,}", f"{compiled:,}"]
        lines.append([*line, f"{found[name][SHARDED].temp / MIB:.0f}"])
    return head, lines


def planned_bytes(found: dict[str, dict[str, Found]]) -> list[tuple[str, int, int]]:
    """Returns (site, bytes by formula, compiled bytes) of each plan, then fully sharded."""
    return [
        (name, PLANS[name].bytes(fully), programs[what].bytes())
        for name, programs in found.items()
        if name in PLANS
        for what, fully in ((SHARDED, False), (FULLY_SHARDED, True))
    ]


def time_table(found: dict) -> tuple[list[str], list[list[str]]]:
    head = ["devices", "three products", "loss, over model", "dx, over model", "dW, over data"]
    lines = []
    for plan in (PLANS[name] for name in PLANS if name in found):
        seconds = plan.seconds()
        whole = seconds.pop("products")
        parts = [f"{duration(one)} ({percent(one / whole)})" for one in seconds.values()]
        lines.append([plan.site.platform.name, duration(whole), *parts])
    return head, lines


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def duration(seconds: float) -> str:
    """Returns a time in milliseconds or microseconds."""
    return f"{1e3 * seconds:.2f} ms" if seconds >= 1e-4 else f"{1e6 * seconds:.1f} us"


def reached(program: Program, one: Found) -> str:
    """Returns whether the target is reached, if there is one."""
    size = math.inf if one.error else one.bytes()
    return verdict(size, program.target) if program.target else ""


NOTES = f"""In automatic programs, the compiler shards the program. In explicit ones, JAX does, by
the types that `jax.make_mesh` gives. Bytes are payload; for a sum, they are those of the result,
and a ring sends about twice as many. Without shard_map, the chunks, here of {CHUNK} tokens, are not
aligned with the shards, and arrays are gathered again for every chunk. By default, the head's chunk
holds all tokens that a device has here; with chunks of {CHUNK} it needs less memory."""
PLANNED = """The large meshes have a head of about the size of Llama 3 70B's, D=8192 and V=131072,
in bfloat16, with 8192 tokens in each data shard. The formula counts 4 float32 numbers per token and
dx over model, dW over data, both in bfloat16, and the kernel if it is fully sharded. Times are
bounds from data sheets, not measurements: links at full speed, 2(k - 1)/k of the payload for a
ring, and products at peak. In brackets are the times over that of the products. The sum of dW can
overlap with the backward pass of the rest of the network. Sources: `benchmarks/_topologies.py`."""


def tables(found: dict[str, dict[str, Found]]) -> dict[str, tuple]:
    """Returns the tables: title to head and lines."""
    out = {f"Eight CPU devices, 2 x 4, {SMALL}": cpu_table(found["cpu"])}
    if any(SITES[name].programs == "main" for name in found):
        out[f"Eight accelerators, 2 x 4, {LARGE}"] = topology_table(found)
    if any(name in PLANS for name in found):
        out["The head on 256 and 4096 devices: bytes per device"] = plan_table(found)
        out["The head on 256 and 4096 devices: time per step by the data sheets"] = time_table(
            found
        )
    return out
