"""Reads from the text of a compiled program what it sends between devices.

    collectives(compiled.as_text(), {"data": 2, "model": 4})

A collective in the body of a loop runs once per trip, so the calls are followed from the entry
down (``_hlo``). Text that cannot be read raises an error, because a collective that is overlooked
would look like less traffic.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from benchmarks._hlo import Instruction, Program

KINDS = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"
# These move bytes too, but no measured program has any, so this module cannot read them.
FOREIGN = "ragged-all-to-all", "collective-broadcast", "send", "recv"


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective of a program, as one device sees it."""

    kind: str
    bytes: int  # of the result of one run, or of the operand of a reduce-scatter
    size: int  # devices in a group
    axes: str  # of the mesh: "data", "data, model"; "" where no mesh was given
    times: int  # how often it runs; in a branch, as if the branch always ran

    @property
    def moved(self) -> int:
        """The payload per device of all runs, in bytes; 0 in a group of one device."""
        return self.bytes * self.times if self.size > 1 else 0


def collectives(
    text: str, mesh: Mapping[str, int] | None = None, unknown: int | None = None
) -> list[Collective]:
    """Returns the collectives of a program from its ``compiled.as_text()``.

    ``mesh``, the sizes of the mesh axes by name, serves to name the axes that a group spans. Raises
    ValueError for a collective that is not understood, and for one in a loop of unknown length,
    unless ``unknown`` says how often such a loop runs.
    """
    program, out = Program(text), []
    for one, computation, runs in program.runs():
        kind = one.opcode.removesuffix("-start")
        if one.opcode.removesuffix("-done") in FOREIGN:
            raise ValueError(f"a collective that is not understood: {one}")
        if kind not in KINDS:
            continue
        times = unknown if runs is None else runs
        if times is None:
            raise ValueError(f"in a loop of unknown length: {one}")
        group, payload = group_of(one, program.devices), payload_of(one)
        if kind == "reduce-scatter":
            payload *= len(group)  # the result is one device's share
        elif computation.startswith("all-reduce-scatter"):
            kind = "reduce-scatter"  # a TPU's way to write one: a sum, then each device's share
        where = axes(group, mesh) if mesh else ""
        out.append(Collective(kind, payload, len(group), where, times))
    return out


def bytes_per_device(text: str) -> int:
    """Returns the payload of all collectives of a program, each as often as it runs."""
    return sum(found.moved for found in collectives(text))


def grouped(found: list[Collective]) -> list[tuple[str, str, int, int, int]]:
    """Returns (kind, axes, size, runs, bytes) of collectives that move bytes, the most first."""
    runs, moved = Counter(), Counter()
    for one in found:
        key = one.kind, one.axes, one.size
        runs[key] += one.times
        moved[key] += one.moved
    return [(*key, runs[key], size) for key, size in moved.most_common() if size]


def payload_of(one: Instruction) -> int:
    """Returns the bytes of the result. Asynchronous results are often (operands, results, ...)."""
    text = one.type
    if one.opcode.endswith("-start") and one.opcode != "all-reduce-start":
        inner = re.sub(r"\{.*?\}", "", text).removeprefix("(")  # layouts have brackets too
        parts = re.findall(r"\([^()]*\)|\w+\[.*?\]", inner)
        if len(parts) < 2:
            raise ValueError(f"expected (operands, results): {one}")
        text = parts[1]
    shapes = re.findall(r"([a-z]\w*)\[([\d,]*)\]", text)
    if not shapes:
        raise ValueError(f"no array in the type {text!r}")
    return sum(-(-bits(dtype) * math.prod(ints(shape)) // 8) for dtype, shape in shapes)


def bits(dtype: str) -> int:
    """Returns the bits of one element, for names such as f32, bf16, s4, f8e4m3fn and pred."""
    number = re.match(r"[a-z]+(\d+)", dtype)
    if not number and dtype != "pred":
        raise ValueError(f"no size known for the dtype {dtype!r}")
    return int(number[1]) if number else 8


def ints(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


# ---------------------------------------------------------------- groups


def group_of(one: Instruction, devices: int) -> list[int]:
    """Returns the devices in the group of device 0. HLO has three notations for groups."""
    text = one.attributes()
    if one.opcode.startswith("collective-permute"):
        if found := re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", text):
            return connected(found[1])
    elif found := re.search(r"replica_groups=\{((?:\{[\d,]*\},?)*)\}", text):
        groups = [ints(group) for group in found[1].split("}")[:-1]]
        if len({len(group) for group in groups}) > 1:
            raise ValueError(f"groups of several sizes: {found[1]}")
        return next((group for group in groups if 0 in group), list(range(devices)))
    elif found := re.search(r"replica_groups=\[\d+,(\d+)\]<=(\[[\d,]+\]\S*?)(?:, |$)", text):
        return iota(found[2])[: int(found[1])]
    elif found := re.search(r"replica_groups=mesh\[(.*?)\](.*?) ?\{(.*?)\}", text):
        return of_mesh(*found.groups())
    raise ValueError(f"groups that are not understood: {one}")


def connected(text: str) -> list[int]:
    """Returns the devices that pairs such as ``{0,1},{1,0}`` connect with the first that sends."""
    pairs = [ints(pair) for pair in text.split("}")[:-1]]
    reached = set(next((pair for pair in pairs if pair[0] != pair[1]), [0]))
    while more := {x for pair in pairs if reached & set(pair) for x in pair} - reached:
        reached |= more
    return sorted(reached)


def iota(text: str) -> list[int]:
    """Reads ``[2,4]T(1,0)``: all devices in that shape, transposed to that order of the axes."""
    shape, _, order = text.partition("T")
    devices = np.arange(math.prod(ints(shape))).reshape(ints(shape))
    return devices.transpose(ints(order) or None).ravel().tolist()


def of_mesh(sizes: str, devices: str, names: str) -> list[int]:
    """Reads ``mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'a','b':(2)2}``; ids may be missing.

    ``'b':(2)2`` is the middle part of axis b: 2 before it, 2 itself, and the rest after it.
    """
    mesh = {name: int(size) for name, size in re.findall(r"'(.*?)'=(\d+)", sizes)}
    places = {name: [0] for name in mesh}
    for name, before, steps in re.findall(r"'(.*?)'(?::\((\d+)\)(\d+))?", names):
        steps, before = int(steps or mesh[name]), int(before or 1)
        by = mesh[name] // (before * steps)
        places[name] = [place + by * i for place in places[name] for i in range(steps)]
    ids = re.search(r"device_ids=\((.*)\)", devices)
    order = (iota if "[" in ids[1] else ints)(ids[1]) if ids else range(math.prod(mesh.values()))
    return np.array(order).reshape(*mesh.values())[np.ix_(*places.values())].ravel().tolist()


def axes(group: list[int], mesh: Mapping[str, int]) -> str:
    """Returns the axes of the mesh that a group spans; "part of" if it does not span them whole."""
    names, rest = [], list(group)
    for name, size in reversed(mesh.items()):
        if len({device % size for device in rest}) > 1:
            names.insert(0, name)
        rest = [device // size for device in rest]
    whole = math.prod(mesh[name] for name in names) == len(group)
    return ("" if whole else "part of ") + ", ".join(names)
