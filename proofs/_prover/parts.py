"""Reads the primitives that split, reverse, join and pad arrays.

Each function computes, as a sum of indices, from which place an entry of the output comes. If
entries come from several arrays, a term ``[index < end]``, which is 1 or 0, chooses among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._normal_form import (
    ONE,
    ZERO,
    Atom,
    Poly,
    Refused,
    as_index,
    by_cases,
    delta,
    fresh,
    greater,
    nonnegative,
    poly,
    substitute,
    total,
)
from .read import dimension, reads, shape_of, shaped
from .tensor import Tensor, axis, chosen, fresh_axis


@reads("slice")
def _slice(eqn: Any, t: Tensor) -> Tensor:
    shape, starts = shape_of(eqn.outvars[0].aval), eqn.params["start_indices"]
    strides = eqn.params["strides"] or (1,) * len(shape)
    places = {
        i: dimension(starts[i]) + dimension(strides[i]) * axis(i, d) for i, d in enumerate(shape)
    }
    return shaped(eqn, t.placed(places))


@reads("rev")
def _rev(eqn: Any, t: Tensor) -> Tensor:
    back = {i: t.shape[i] - 1 - axis(i, t.shape[i]) for i in eqn.params["dimensions"]}
    return shaped(eqn, t.placed(back))


@reads("split")
def _split(eqn: Any, t: Tensor) -> list[Tensor]:
    k, start, parts = eqn.params["axis"], ZERO, []
    for out, size in enumerate(map(dimension, eqn.params["sizes"])):
        parts.append(shaped(eqn, t.placed({k: start + axis(k, size)}), out))
        start = start + size
    return parts


@reads("concatenate")
def _concatenate(eqn: Any, *ts: Tensor) -> Tensor:
    k, start, parts = eqn.params["dimension"], ZERO, []
    here = axis(k, shape_of(eqn.outvars[0].aval)[k])
    for t in ts:
        parts.append((t.placed({k: here - start}), start + t.shape[k]))
        start = start + t.shape[k]
    return shaped(eqn, _joined(parts, here))


@reads("stack")
def _stack(eqn: Any, *ts: Tensor) -> Tensor:
    k = eqn.params["axis"]
    parts = []
    for end, t in enumerate(ts, 1):
        moved = {i: axis(i + 1, t.shape[i]) for i in range(k, len(t.shape))}
        parts.append((t.placed(moved), poly(end)))
    return shaped(eqn, _joined(parts, axis(k, poly(len(ts)))))


@reads("unstack")
def _unstack(eqn: Any, t: Tensor) -> list[Tensor]:
    k = eqn.params["axis"]
    moved = {i: axis(i - 1, t.shape[i]) for i in range(k + 1, len(t.shape))}
    return [shaped(eqn, t.placed(moved | {k: out}), out) for out in range(len(eqn.outvars))]


def _joined(parts: Sequence[tuple[Tensor, Poly]], here: Atom | int) -> Tensor:
    """Returns the parts joined along an axis with the index ``here``, each up to its end."""
    joined, _ = parts[-1]
    for t, end in reversed(parts[:-1]):
        joined = chosen(greater(end - here), t, joined)
    return joined


@reads("pad")
def _pad(eqn: Any, t: Tensor, fill: Tensor) -> Tensor:
    """Returns t padded; with padding between entries, a sum over t finds the entry at a place."""
    shape = shape_of(eqn.outvars[0].aval)
    inside = ONE
    places: dict[int, Poly] = {}
    spread: list[tuple[Atom, Poly]] = []
    for i, (low, _, between) in enumerate(eqn.params["padding_config"]):
        d, here = t.shape[i], axis(i, shape[i]) - dimension(low)
        if dimension(between) != ZERO and d != ONE:
            entry = fresh(d)
            places[i] = poly(entry)
            place = (dimension(between) + 1) * entry
            spread.append((entry, delta(as_index(place), as_index(here))))
        else:
            places[i] = here
            inside = inside * greater(here + 1) * greater(d - here)
    t = t.placed(places)
    if spread and not (t.finite and fill.finite):
        raise Refused("numbers that may be bad, with others between them")
    if not spread:
        return shaped(eqn, chosen(inside, t, fill))
    value = inside * (t.value - fill.value)
    for entry, found in spread:
        value = total(value * found, entry)
    return shaped(eqn, Tensor((), fill.value + value))


@reads("dynamic_slice")
def _dynamic_slice(eqn: Any, t: Tensor, *starts: Tensor) -> Tensor:
    sizes = shape_of(eqn.outvars[0].aval)
    marks = dict(enumerate(map(fresh_axis, t.shape)))
    t = t.placed(marks)
    for i, size in enumerate(sizes):
        if isinstance(mark := marks[i], Atom):
            start = start_of(starts[i], t.shape[i], size)
            t = taken(t, mark, start, size, axis(i, size))
    return shaped(eqn, t)


@reads("dynamic_update_slice")
def _dynamic_update_slice(eqn: Any, t: Tensor, new: Tensor, *starts: Tensor) -> Tensor:
    inside, places = ONE, {}
    for i, (d, size) in enumerate(zip(t.shape, new.shape, strict=True)):
        start = start_of(starts[i], d, size)
        if start.atoms() and any(a.boolean for a in start.atoms()):
            raise Refused("a place that depends on a choice")
        in_range(start, d, size)
        places[i] = here = axis(i, d) - start
        inside = inside * greater(here + 1) * greater(size - here)
    return shaped(eqn, chosen(inside, new.placed(places), t))


def start_of(start: Tensor, d: Poly, size: Poly) -> Poly:
    """Returns the start of a slice, which JAX clamps to 0 if the slice is the whole axis."""
    if size == d:
        return ZERO
    if not start.finite:
        raise Refused("an index that may be bad")
    return start.value


def taken(t: Tensor, mark: Atom, start: Poly, size: Poly, here: Atom | int) -> Tensor:
    """Returns t at the place ``here`` of a slice of the axis whose index is ``mark``."""

    def at(part: Poly) -> Poly:
        def case(q: Poly) -> Poly:
            in_range(q, mark.args[1], size)
            return substitute(part, {mark: q + here})

        return by_cases(case, start)

    return Tensor(t.shape, at(t.value), at(t.lowest), at(t.bad), t.dtype)


def in_range(start: Poly, d: Poly, size: Poly) -> None:
    """Refuses a slice that may reach beyond its axis, which JAX would clamp, fill or drop."""
    if not nonnegative(start) or not nonnegative(d - size - start):
        raise Refused(f"the index {start} of a dimension {d}: it may be clamped")
