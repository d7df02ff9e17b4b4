"""The text of a compiled program (HLO): its computations, and how often each of them runs.

The number of trips of a loop is in its backend_config if the compiler wrote it. The compiler for
TPU does not, so there it is read from the loop: the start of its counter, the step and the bound.
"""

import dataclasses
import re
from collections.abc import Iterator

CALLS = re.compile(
    r"\b(?:condition|body|calls|to_apply|branch_computations|true_computation|false_computation"
    r"|called_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction ``name = type opcode(operands), rest``."""

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool  # what its computation returns

    def attributes(self) -> str:
        """The rest of the line without quoted text, which holds user names and compiler notes."""
        return re.sub(r'"(?:[^"\\]|\\.)*"', '""', self.rest)

    def calls(self) -> list[str]:
        """The names of the computations that it runs; the end of an asynchronous call runs none."""
        if self.opcode.endswith(("-done", "-update")):
            return []
        found = CALLS.findall(self.attributes())
        return [name for names in found for name in re.findall(r"[\w.\-]+", names)]

    def called(self, role: str) -> str:
        """Returns the computation in one role: body or condition."""
        return re.search(rf"\b{role}=%?([\w.\-]+)", self.attributes())[1]

    def index(self) -> int:
        """The index of a get-tuple-element."""
        return int(re.search(r"\bindex=(\d+)", self.rest)[1])


@dataclasses.dataclass(frozen=True)
class Run:
    """An instruction, the computation that it is in, and how often it runs."""

    instruction: Instruction
    computation: str
    times: int | None  # None: in a loop of unknown length
    conditional: bool


def split(text: str) -> list[str]:
    """Splits a text at the commas that are outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def closing(text: str) -> int:
    """Returns where the bracket closes that a text begins with."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return i
    raise ValueError(f"a bracket stays open: {text}")


def instruction(line: str) -> Instruction | None:
    """Reads the instruction of a line, if it has one."""
    head = re.match(r"\s+(ROOT )?%?([\w.\-]+) = (.*)", line)
    if not head:
        return None
    root, name, text = head.groups()
    end = closing(text) + 1 if text.startswith("(") else text.find(" ")
    kind, text = text[:end], text[end:].strip()
    opcode, bracket, _ = text.partition("(")
    if not bracket:
        raise ValueError(f"not an instruction: {line}")
    inner = text[len(opcode) :]
    end = closing(inner)
    operands = [part.split()[-1].lstrip("%") for part in split(inner[1:end])]
    return Instruction(name, kind, opcode, tuple(operands), inner[end + 1 :], bool(root))


class Program:
    """The computations by name, each a dictionary of its instructions."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry, inside = "", {}
        for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
            if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
                inside = self.computations[head[2]] = {}
                self.entry = head[2] if head[1] else self.entry
            elif found := instruction(line):
                inside[found.name] = found
        if not self.entry:
            raise ValueError("no ENTRY: not the text of a compiled program")
        partitions = re.search(r"num_partitions=(\d+)", text)
        self.devices = int(partitions[1]) if partitions else 1

    def runs(self) -> Iterator[Run]:
        """Yields every instruction that the entry reaches, once for each way to reach it."""
        return self._runs(self.entry, 1, False)

    def _runs(self, computation: str, times: int | None, conditional: bool) -> Iterator[Run]:
        for one in self.computations[computation].values():
            yield Run(one, computation, times, conditional)
            inner = times
            if one.opcode == "while" and times is not None:
                trips = self.trips(computation, one)
                inner = trips and times * trips
            for name in one.calls():
                yield from self._runs(name, inner, conditional or one.opcode == "conditional")

    def trips(self, computation: str, loop: Instruction) -> int | None:
        """Returns how often the body of a while loop runs, or None if that is not known."""
        if stated := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.rest):
            return int(stated[1])
        outside = self.computations[computation]
        condition, body = (self.computations[loop.called(r)] for r in ("condition", "body"))
        compare, end = root(condition), root(body)
        start = outside.get(loop.operands[0])
        if not (compare.opcode == "compare" and "direction=LT" in compare.rest):
            return None
        counter = followed(condition, compare.operands[0])
        if not (counter.opcode == "get-tuple-element" and start and start.opcode == "tuple"):
            return None
        i = counter.index()
        step = followed(body, end.operands[i])
        numbers = [
            number(outside, start.operands[i]),
            number(condition, compare.operands[1], outside, start),
            *(number(body, name, outside, start) for name in step.operands[1:]),
        ]
        same = step.opcode == "add" and is_element(body, step.operands[0], i)
        if not same or None in numbers:
            return None
        first, last, by = numbers
        return max(0, -(-(last - first) // by))


def root(computation: dict[str, Instruction]) -> Instruction:
    return next(one for one in computation.values() if one.root)


def followed(computation: dict[str, Instruction], name: str) -> Instruction:
    """Follows a value back through copies to the instruction that made it."""
    one = computation[name]
    while one.opcode in ("copy", "bitcast", "convert", "reshape"):
        one = computation[one.operands[0]]
    return one


def is_element(computation: dict[str, Instruction], name: str, index: int) -> bool:
    """Returns whether a value is that element of the loop's state."""
    one = followed(computation, name)
    return one.opcode == "get-tuple-element" and one.index() == index


def number(inside, name: str, outside=None, start: Instruction | None = None) -> int | None:
    """Returns a constant, from the loop itself or from its state if the loop does not change it."""
    one = followed(inside, name)
    if (
        one.opcode == "get-tuple-element"
        and start
        and inside[one.operands[0]].opcode == "parameter"
    ):
        one = followed(outside, start.operands[one.index()])
    return int(one.operands[0]) if one.opcode == "constant" else None
