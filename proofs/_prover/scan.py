"""Reads loops whose carries are constant, count, or grow by a term free of growing carries.

The body is read once, at a symbolic iteration, with each carry an array of any real numbers. A
carry that comes out as it went in is constant. An integer that comes out as itself plus a number c
is a counter: at iteration t, counted from 0, it is its first value plus c t. Another carry may come
out as itself plus a term f that depends on constant carries and counters only. By induction, its
last value is its first plus the sum of f over the iterations, in whatever order they run. Any other
carry is refused.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.extend import core

from .._jax_internals import scan_counts, without_dead_code
from .._normal_form import (
    ONE,
    Atom,
    Poly,
    Refused,
    Symbol,
    greater,
    nonnegative,
    poly,
    total,
)
from .layers import unnamed
from .read import constant, dimension, read, reads, shape_of
from .tensor import Tensor, axis, fresh_axis, new_tensor

_numbers = itertools.count()


@reads("scan")
@unnamed
def _scan(eqn: Any, *operands: Tensor) -> list[Tensor]:
    constants, carries = scan_counts(eqn.params)
    length = dimension(eqn.params["length"])
    step = fresh_axis(length)
    rows = [_row(t, step) for t in operands[constants + carries :]]
    first = operands[constants : constants + carries]
    loop = _Loop(eqn.params["jaxpr"], operands[:constants], first, rows)
    before, outs = loop.iterated(length - 1 - step if eqn.params["reverse"] else poly(step))
    moving = loop.moving(before)
    shapes = [shape_of(v.aval) for v in eqn.outvars[carries:]]
    stacked = [
        _stacked(t, shape, moving, step) for t, shape in zip(outs[carries:], shapes, strict=True)
    ]
    return [*loop.last(before, outs, step, length), *stacked]


@reads("while")
@unnamed
def _while(eqn: Any, *operands: Tensor) -> list[Tensor]:
    """Reads a loop that runs while a counter with step 1 is below a number."""
    of_cond, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    constants, first = operands[of_cond : of_cond + of_body], operands[of_cond + of_body :]
    loop = _Loop(eqn.params["body_jaxpr"], constants, first)
    length = loop.trips(eqn.params["cond_jaxpr"], operands[:of_cond])
    step = fresh_axis(length)
    before, outs = loop.iterated(poly(step))
    return loop.last(before, outs, step, length)


@dataclass(frozen=True)
class _Loop:
    """The body of a loop and its inputs: constants, first carries, and rows of arrays."""

    body: Any
    constants: Sequence[Tensor]
    first: Sequence[Tensor]
    rows: Sequence[Tensor] = ()

    @functools.cached_property
    def counts(self) -> dict[int, Poly]:
        """The constant step of each counter, by the position of the counter among the carries."""
        counts = {}
        marks = [_mark(t) for t in self.first]
        for k, t in enumerate(self.first):
            if np.issubdtype(t.dtype, np.integer) and t.finite:
                try:
                    new = self._output(k, marks)
                except Refused:
                    continue
                step = new.value - marks[k].value
                if new.finite and step.terms and step.number() is not None:
                    counts[k] = step
        return counts

    def _output(self, k: int, carries: Sequence[Tensor]) -> Tensor:
        body = without_dead_code(self.body, k)
        return read(body, [*self.constants, *carries, *self.rows])[0]

    def _stays(self, k: int, marks: Sequence[Tensor]) -> bool:
        """Returns whether the body can be read for one carry and returns it unchanged."""
        try:
            return _unmoved(marks[k], self._output(k, marks))
        except Refused:
            return False

    def trips(self, cond: Any, of_cond: Sequence[Tensor]) -> Poly:
        """Returns how often the loop runs, if its condition is that a counter is below a number."""
        marks = [_mark(t) for t in self.first]
        now = [t if self._stays(k, marks) else marks[k] for k, t in enumerate(self.first)]
        (goes_on,) = read(cond, [*of_cond, *now])
        literals = [v for e in cond.eqns for v in e.invars if isinstance(v, core.Literal)]
        ends = [t.value for t in (*now, *of_cond, *(constant(v.val) for v in literals))]
        for i in (i for i, c in self.counts.items() if c == ONE):
            for end in ends:
                left = end - self.first[i].value
                sizes = all(a.kind == "dim" for a in left.atoms()) and nonnegative(left)
                if sizes and goes_on.finite and goes_on.value == greater(end - marks[i].value):
                    return left
        raise Refused("a loop that is not one for as long as a count is below a size")

    def iterated(self, time: Poly) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the carries before the iteration at ``time``, and the outputs of the body."""
        if not all(t.finite for t in self.first):
            raise Refused("a carry that may start infinite or NaN")
        before = [
            replace(t, value=t.value + self.counts[k] * time) if k in self.counts else _mark(t)
            for k, t in enumerate(self.first)
        ]
        outs = read(self.body, [*self.constants, *before, *self.rows])
        still = [_unmoved(old, new) for old, new in zip(before, outs, strict=False)]
        if any(still):  # read the body again, with the first values of constant carries
            before = [t if s else b for s, t, b in zip(still, self.first, before, strict=True)]
            outs = read(self.body, [*self.constants, *before, *self.rows])
        return before, outs

    def moving(self, before: Sequence[Tensor]) -> set[Symbol]:
        """Returns the symbols of the carries that change and are not counters."""
        marks = [b for k, b in enumerate(before) if b is not self.first[k] and k not in self.counts]
        return {a.args[0] for b in marks for a in b.value.atoms()}

    def last(
        self, before: Sequence[Tensor], after: Sequence[Tensor], step: Atom | int, length: Poly
    ) -> list[Tensor]:
        """Returns the carries after the last iteration."""
        moving = self.moving(before)
        return [
            replace(start, value=start.value + self.counts[k] * length)
            if k in self.counts
            else _grown(start, old, new, moving, step)
            for k, (start, old, new) in enumerate(zip(self.first, before, after, strict=False))
        ]


def _mark(t: Tensor) -> Tensor:
    """Returns an array of any numbers that stands for a carry."""
    kind = "real" if np.issubdtype(t.dtype, np.floating) else "integer"
    return new_tensor(Symbol(f"carry {next(_numbers)}", kind), t)


def _unmoved(old: Tensor, new: Tensor) -> bool:
    return new.finite and new.value == old.value


def _row(t: Tensor, step: Atom | int) -> Tensor:
    """Returns the part of an array that an iteration gets: its entry ``step`` of the first axis."""
    moved = t.placed({i: axis(i - 1, d) if i else step for i, d in enumerate(t.shape)})
    return replace(moved, shape=t.shape[1:])


def _grown(
    start: Tensor, old: Tensor, new: Tensor, moving: set[Symbol], step: Atom | int
) -> Tensor:
    if not np.issubdtype(start.dtype, np.floating) and not _unmoved(old, new):
        raise Refused(f"a carry of {np.dtype(start.dtype)} that does not count")
    if not new.finite:
        raise Refused("a carry that may become infinite or NaN")
    growth = new.value - old.value
    _free_of(growth, moving, "a carry that is not itself plus a term free of all carries")
    every = total(growth, step) if isinstance(step, Atom) else growth
    return Tensor(start.shape, start.value + every, dtype=start.dtype)


def _stacked(t: Tensor, shape: tuple[Poly, ...], moving: set[Symbol], step: Atom | int) -> Tensor:
    for part in (t.value, t.lowest, t.bad):
        _free_of(part, moving, "an output of each iteration in which a carry stands")
    moved = t.placed({i: axis(i + 1, d) for i, d in enumerate(t.shape)})
    here = {step: poly(axis(0, shape[0]))} if isinstance(step, Atom) else {}
    return replace(moved.at(here), shape=shape)


def _free_of(p: Poly, moving: set[Symbol], what: str) -> None:
    if any(a.kind == "entry" and a.args[0] in moving for a in p.inside()):
        raise Refused(what)
