"""Reading of ``lax.scan``: carries that grow by a term free of every changing carry.

The body is read once, at a symbolic iteration, with each carry an array of any real
numbers. A carry that comes out as it went in is constant. If another comes out as itself
plus f, and no carry but constant ones stands in f, then by induction its last value is
its first plus the sum of f over the iterations, in whatever order they run. Any other
carry is refused.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .._jax_internals import scan_counts
from .._normal_form import Atom, Poly, Refused, Symbol, entry, fresh, poly, total
from .read import dimension, read, reads, shape_of
from .tensor import Tensor, axes, axis

_numbers = itertools.count()


@reads("scan")
def _scan(eqn: Any, *operands: Tensor) -> list[Tensor]:
    constants, carries = scan_counts(eqn.params)
    first = operands[constants : constants + carries]
    length = dimension(eqn.params["length"])
    step = axis(0, length) and fresh(length)
    symbols = [Symbol(f"carry {next(_numbers)}", "real") for _ in first]
    before = [_carried(s, t) for s, t in zip(symbols, first, strict=True)]
    rows = [_row(t, step) for t in operands[constants + carries :]]

    def once() -> list[Tensor]:
        return read(eqn.params["jaxpr"], [*operands[:constants], *before, *rows])

    outs = once()
    still = [_unmoved(old, new) for old, new in zip(before, outs, strict=False)]
    if any(still):  # what never changes is what it was at the start, for the others too
        before = [t if s else b for s, t, b in zip(still, first, before, strict=True)]
        outs = once()
    last = [
        _grown(start, old, new, symbols, step)
        for start, old, new in zip(first, before, outs[:carries], strict=True)
    ]
    shapes = [shape_of(v.aval) for v in eqn.outvars[carries:]]
    stacked = [
        _stacked(t, shape, symbols, step) for t, shape in zip(outs[carries:], shapes, strict=True)
    ]
    return [*last, *stacked]


def _carried(symbol: Symbol, t: Tensor) -> Tensor:
    if not np.issubdtype(t.dtype, np.floating):
        raise Refused(f"a carry of {np.dtype(t.dtype)}")
    if not t.finite:
        raise Refused("a carry that may start infinite or NaN")
    return Tensor(t.shape, entry(symbol, *axes(t.shape)), dtype=t.dtype)


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
    start: Tensor, old: Tensor, new: Tensor, symbols: list[Symbol], step: Atom | int
) -> Tensor:
    if not new.finite:
        raise Refused("a carry that may become infinite or NaN")
    growth = new.value - old.value
    _free_of(growth, symbols, "a carry that is not itself plus a term free of all carries")
    every = total(growth, step) if isinstance(step, Atom) else growth
    return Tensor(start.shape, start.value + every, dtype=start.dtype)


def _stacked(t: Tensor, shape: tuple[Poly, ...], symbols: list[Symbol], step: Atom | int) -> Tensor:
    for part in (t.value, t.lowest, t.bad):
        _free_of(part, symbols, "an output of each iteration in which a carry stands")
    new: dict[Atom, Poly] = {step: poly(axis(0, shape[0]))} if isinstance(step, Atom) else {}
    for i, d in enumerate(t.shape):
        old = axis(i, d)
        if isinstance(old, Atom):
            new[old] = poly(axis(i + 1, d))
    moved = t.at(new)
    return Tensor(shape, moved.value, moved.lowest, moved.bad, t.dtype)


def _free_of(p: Poly, symbols: list[Symbol], what: str) -> None:
    if any(a.kind == "entry" and a.args[0] in symbols for a in p.inside()):
        raise Refused(what)
