"""Reading of loops: carries that count, or grow by a term free of every changing carry.

The body is read once, at a symbolic iteration, with each carry an array of any real
numbers. A carry that comes out as it went in is constant. An integer that comes out as itself
plus a number c is its first value plus c t at iteration t, counted from 0. If another comes out
as itself plus f, and no carry but constant and counting ones stands in f, then by induction its
last value is its first plus the sum of f over the iterations, in whatever order they run. Any
other carry is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jax.extend import core

from .._jax_internals import only_output, scan_counts
from .._normal_form import (
    ONE,
    Atom,
    Poly,
    Refused,
    Symbol,
    entry,
    fresh,
    greater,
    nonnegative,
    poly,
    total,
)
from .layers import unnamed
from .read import constant, dimension, read, reads, shape_of
from .tensor import Tensor, axes, axis

_numbers = itertools.count()


@reads("scan")
@unnamed()
def _scan(eqn: Any, *operands: Tensor) -> list[Tensor]:
    constants, carries = scan_counts(eqn.params)
    first = operands[constants : constants + carries]
    length = dimension(eqn.params["length"])
    step = axis(0, length) and fresh(length)
    rows = [_row(t, step) for t in operands[constants + carries :]]
    time = length - 1 - step if eqn.params["reverse"] else poly(step)
    body = eqn.params["jaxpr"]
    counts = _counts(body, operands[:constants], first, rows)
    before, outs = _iterated(body, operands[:constants], first, rows, counts, time)
    last = _last(first, before, outs, counts, step, length)
    moving = _moving(first, before, counts)
    shapes = [shape_of(v.aval) for v in eqn.outvars[carries:]]
    stacked = [
        _stacked(t, shape, moving, step) for t, shape in zip(outs[carries:], shapes, strict=True)
    ]
    return [*last, *stacked]


@reads("while")
@unnamed()
def _while(eqn: Any, *operands: Tensor) -> list[Tensor]:
    """A loop for as long as a count is below a number: it runs as often as is left to that."""
    of_cond, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    constants, first = operands[of_cond : of_cond + of_body], operands[of_cond + of_body :]
    body, cond = eqn.params["body_jaxpr"], eqn.params["cond_jaxpr"]
    counts = _counts(body, constants, first, [])
    length = _trips(cond, operands[:of_cond], body, constants, first, counts)
    step = axis(0, length) and fresh(length)
    before, outs = _iterated(body, constants, first, [], counts, poly(step))
    return _last(first, before, outs, counts, step, length)


def _trips(
    cond: Any,
    of_cond: Sequence[Tensor],
    body: Any,
    constants: Sequence[Tensor],
    first: Sequence[Tensor],
    counts: dict[int, Poly],
) -> Poly:
    marks = [_mark(t) for t in first]
    now = [
        t if _stays(body, k, [*constants, *marks], mark) else mark
        for k, (t, mark) in enumerate(zip(first, marks, strict=True))
    ]
    (goes_on,) = read(cond, [*of_cond, *now])
    literals = [v for e in cond.eqns for v in e.invars if isinstance(v, core.Literal)]
    ends = [t.value for t in (*now, *of_cond, *(constant(v.val) for v in literals))]
    for i in (i for i, c in counts.items() if c == ONE):
        for end in ends:
            left = end - first[i].value
            sizes = all(a.kind == "dim" for a in left.atoms()) and nonnegative(left)
            if sizes and goes_on.finite and goes_on.value == greater(end - marks[i].value):
                return left
    raise Refused("a loop that is not one for as long as a count is below a size")


def _mark(t: Tensor) -> Tensor:
    """An array of any numbers in the place of a carry."""
    kind = "real" if np.issubdtype(t.dtype, np.floating) else "integer"
    symbol = Symbol(f"carry {next(_numbers)}", kind)
    return Tensor(t.shape, entry(symbol, *axes(t.shape)), dtype=t.dtype)


def _output(body: Any, k: int, operands: Sequence[Tensor]) -> Tensor:
    return read(only_output(body, k), operands)[0]


def _stays(body: Any, k: int, operands: Sequence[Tensor], mark: Tensor) -> bool:
    """Whether a carry is read, and comes out as it went in."""
    try:
        return _unmoved(mark, _output(body, k, operands))
    except Refused:
        return False


def _counts(
    body: Any, constants: Sequence[Tensor], first: Sequence[Tensor], rows: Sequence[Tensor]
) -> dict[int, Poly]:
    """By which number an integer grows in each iteration, of the carries that do so."""
    counts = {}
    marks = [_mark(t) for t in first]
    for k, t in enumerate(first):
        if np.issubdtype(t.dtype, np.integer) and t.finite:
            try:
                new = _output(body, k, [*constants, *marks, *rows])
            except Refused:
                continue
            step = new.value - marks[k].value
            if new.finite and step.terms and step.number() is not None:
                counts[k] = step
    return counts


def _iterated(
    body: Any,
    constants: Sequence[Tensor],
    first: Sequence[Tensor],
    rows: Sequence[Tensor],
    counts: dict[int, Poly],
    time: Poly,
) -> tuple[list[Tensor], list[Tensor]]:
    """The carries before an iteration; those after it, and what else it gives."""
    if not all(t.finite for t in first):
        raise Refused("a carry that may start infinite or NaN")
    before = [
        replace(t, value=t.value + counts[k] * time) if k in counts else _mark(t)
        for k, t in enumerate(first)
    ]
    outs = read(body, [*constants, *before, *rows])
    still = [_unmoved(old, new) for old, new in zip(before, outs, strict=False)]
    if any(still):  # what never changes is what it was at the start, for the others too
        before = [t if s else b for s, t, b in zip(still, first, before, strict=True)]
        outs = read(body, [*constants, *before, *rows])
    return before, outs


def _last(
    first: Sequence[Tensor],
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    counts: dict[int, Poly],
    step: Atom | int,
    length: Poly,
) -> list[Tensor]:
    moving = _moving(first, before, counts)
    return [
        replace(start, value=start.value + counts[k] * length)
        if k in counts
        else _grown(start, old, new, moving, step)
        for k, (start, old, new) in enumerate(zip(first, before, after, strict=False))
    ]


def _unmoved(old: Tensor, new: Tensor) -> bool:
    return new.finite and new.value == old.value


def _row(t: Tensor, step: Atom | int) -> Tensor:
    """What an iteration gets of an array: its first axis at the iteration's index."""
    new: dict[Atom, Poly] = {}
    for i, d in enumerate(t.shape):
        old = axis(i, d)
        if isinstance(old, Atom):
            new[old] = poly(step if i == 0 else axis(i - 1, d))
    moved = t.at(new)
    return Tensor(t.shape[1:], moved.value, moved.lowest, moved.bad, t.dtype)


def _grown(
    start: Tensor, old: Tensor, new: Tensor, moving: Sequence[Atom], step: Atom | int
) -> Tensor:
    if not np.issubdtype(start.dtype, np.floating) and not _unmoved(old, new):
        raise Refused(f"a carry of {np.dtype(start.dtype)} that does not count")
    if not new.finite:
        raise Refused("a carry that may become infinite or NaN")
    growth = new.value - old.value
    _free_of(growth, moving, "a carry that is not itself plus a term free of all carries")
    every = total(growth, step) if isinstance(step, Atom) else growth
    return Tensor(start.shape, start.value + every, dtype=start.dtype)


def _stacked(
    t: Tensor, shape: tuple[Poly, ...], moving: Sequence[Atom], step: Atom | int
) -> Tensor:
    for part in (t.value, t.lowest, t.bad):
        _free_of(part, moving, "an output of each iteration in which a carry stands")
    new: dict[Atom, Poly] = {step: poly(axis(0, shape[0]))} if isinstance(step, Atom) else {}
    for i, d in enumerate(t.shape):
        old = axis(i, d)
        if isinstance(old, Atom):
            new[old] = poly(axis(i + 1, d))
    moved = t.at(new)
    return Tensor(shape, moved.value, moved.lowest, moved.bad, t.dtype)


def _free_of(p: Poly, moving: Sequence[Atom], what: str) -> None:
    symbols = {a.args[0] for a in moving}
    if any(a.kind == "entry" and a.args[0] in symbols for a in p.inside()):
        raise Refused(what)


def _moving(
    first: Sequence[Tensor], before: Sequence[Tensor], counts: dict[int, Poly]
) -> list[Atom]:
    """What stands for the carries that change and do not count."""
    marks = [b for k, b in enumerate(before) if b is not first[k] and k not in counts]
    return [a for b in marks for a in b.value.atoms()]
