"""Reads the text of a compiled program (HLO): its computations, and how often each of them runs.

The number of trips of a loop is in its backend_config if the compiler wrote it. The compiler for
TPU does not, so there it is computed from the start, the step and the bound of the loop's counter.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

CALLS = re.compile(r"\b(?:condition|body|calls|to_apply|\w+_computations?)=(\{[^}]*\}|%?[\w.\-]+)")
NAMED = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
INSTRUCTION = re.compile(r"(.*?) ([\w\-]+)\((.*)")


class Instruction(NamedTuple):
    """An instruction ``name = type opcode(rest``, whose rest begins with the operands."""

    root: bool  # whether its computation returns it
    name: str
    type: str
    opcode: str
    rest: str

    def operands(self) -> list[str]:
        """Returns the names of the operands, and after them those of the computations it calls."""
        return re.findall(r"%([\w.\-]+)", self.rest)

    def attributes(self) -> str:
        """Returns the rest without quoted text, which holds user names and compiler notes."""
        return re.sub(r'"(?:[^"\\]|\\.)*"', '""', self.rest)

    def calls(self) -> list[str]:
        """Returns the names of the computations that it runs; asynchronous ends run none."""
        ends = self.opcode.endswith(("-done", "-update"))
        found = [] if ends else CALLS.findall(self.attributes())
        return [name for names in found for name in re.findall(r"[\w.\-]+", names)]

    def element(self) -> int | None:
        """Returns the index of a get-tuple-element; None for any other instruction."""
        found = re.search(r"\bindex=(\d+)", self.rest)
        return int(found[1]) if self.opcode == "get-tuple-element" else None


Computation = dict[str, Instruction]


class Program:
    """The computations of a program by name, each a dictionary of its instructions."""

    def __init__(self, text: str):
        self.computations: dict[str, Computation] = {}
        self.entry, inside = "", {}
        for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
            if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
                inside = self.computations[head[2]] = {}
                self.entry = head[2] if head[1] else self.entry
            elif head := NAMED.match(line):
                if not (rest := INSTRUCTION.fullmatch(line, head.end())):
                    raise ValueError(f"not an instruction: {line}")
                inside[head[2]] = Instruction(bool(head[1]), head[2], *rest.groups())
        if not self.entry:
            raise ValueError("no ENTRY: not the text of a compiled program")
        partitions = re.search(r"num_partitions=(\d+)", text)
        self.devices = int(partitions[1]) if partitions else 1

    def runs(self, name: str = "", times: int | None = 1) -> Iterator[tuple]:
        """Yields (instruction, computation, runs) once for each way to reach an instruction.

        The default is to start at the entry. ``runs`` is None in a loop of unknown length.
        """
        name = name or self.entry
        for one in self.computations[name].values():
            yield one, name, times
            inner = times
            if one.opcode == "while" and times is not None:
                trips = self.trips(self.computations[name], one)
                inner = None if trips is None else times * trips
            for called in one.calls():
                yield from self.runs(called, inner)

    def trips(self, outside: Computation, loop: Instruction) -> int | None:
        """Returns how often the body of a while loop runs, or None if that is not known."""
        if stated := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.rest):
            return int(stated[1])
        condition, body = (self.computations[name] for name in loop.calls())
        compare, end = (next(i for i in c.values() if i.root) for c in (condition, body))
        start = outside.get(loop.operands()[0])
        if compare.opcode != "compare" or "direction=LT" not in compare.rest:
            return None
        i = followed(condition, compare.operands()[0]).element()
        if i is None or not start or start.opcode != "tuple":
            return None
        step = followed(body, end.operands()[i])
        if step.opcode != "add" or followed(body, step.operands()[0]).element() != i:
            return None
        first = number(outside, start.operands()[i])
        # The parts of the loop's state that its body returns unchanged, by their values at first.
        fixed = {
            j: start.operands()[j]
            for j, name in enumerate(end.operands())
            if followed(body, name).element() == j
        }
        last = number(condition, compare.operands()[1], outside, fixed)
        by = number(body, step.operands()[1], outside, fixed)
        return None if None in (first, last, by) else len(range(first, last, by))


def followed(computation: Computation, name: str) -> Instruction:
    """Follows a value back through copies to the instruction that made it."""
    one = computation[name]
    while one.opcode in ("copy", "bitcast", "convert", "reshape"):
        one = computation[one.operands()[0]]
    return one


def number(inside: Computation, name: str, outside=None, fixed=None) -> int | None:
    """Returns a constant, which may be a fixed part of the loop's state, or None."""
    one = followed(inside, name)
    if fixed and one.element() in fixed:
        one = followed(outside, fixed[one.element()])
    return int(one.rest.partition(")")[0]) if one.opcode == "constant" else None
