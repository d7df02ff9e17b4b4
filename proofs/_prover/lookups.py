"""Reading of gather and scatter-add, at indices that are sure to be in range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.lax import GatherScatterMode

from .._normal_form import (
    ONE,
    Atom,
    Poly,
    Refused,
    as_index,
    by_cases,
    delta,
    fresh,
    nonnegative,
    poly,
    substitute,
    total,
)
from .read import dimension, reads, shape_of, shaped
from .tensor import Tensor, axis, renamed


def _lookup(t: Tensor, i: Atom, where: Poly) -> Tensor:
    """The entry of an axis at an index that is sure to be in its range."""

    def at(part: Poly) -> Poly:
        def case(q: Poly) -> Poly:
            _in_range(q, i)
            return substitute(part, {i: poly(as_index(q))})

        return by_cases(case, where)

    return Tensor((), at(t.value), at(t.lowest), at(t.bad), t.dtype)


def _in_range(q: Poly, i: Atom) -> None:
    if not nonnegative(q) or not nonnegative(i.args[1] - 1 - q):
        raise Refused(f"the index {q} of a dimension {i.args[1]}: it may be clamped")


@reads("gather")
def _gather(eqn: Any, t: Tensor, where: Tensor) -> Tensor:
    """One entry of each indexed axis; the others whole, or batched with the indices.

    An axis of which a slice of 1 is taken without an index is taken at 0.
    """
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if not where.finite:
        raise Refused("an index that may be bad")
    _no_promises(eqn, where, numbers.start_indices_batching_dims)
    shape = shape_of(eqn.outvars[0].aval)
    lead = _scattered(shape, numbers.offset_dims)
    rows = {i: axis(u, shape[u]) for i, u in enumerate(lead)}
    batched = dict(
        zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    )
    windows = _windows(t, (*numbers.collapsed_slice_dims, *batched), numbers.offset_dims)
    new: dict[Atom, Poly] = {}
    looked: list[tuple[Atom, Poly]] = []
    for i, d in enumerate(t.shape):
        size = dimension(sizes[i])
        place: Atom | int = 0
        if i in numbers.start_index_map:
            q = _component(where, rows, numbers.start_index_map.index(i))
            _one_entry(eqn, q, d, size)
            if d != ONE:
                place = fresh(d)
                looked.append((place, q))
        elif i in batched:
            place = rows[batched[i]]
        elif size == d and i in windows:
            place = axis(windows[i], d)
        elif size != ONE:
            raise Refused("a part of an axis")
        if d != ONE:
            new[axis(i, d)] = poly(place)  # type: ignore[index]
    t = t.at(new)
    for mark, q in looked:
        t = _lookup(t, mark, q)
    return shaped(eqn, t)


def _scattered(shape: tuple[Poly, ...], windows: Sequence[int]) -> list[int]:
    """The axes of a gather's output, or of a scatter's updates, that those of indices become."""
    return [i for i in range(len(shape)) if i not in windows]


def _windows(t: Tensor, without: Sequence[int], axes: Sequence[int]) -> dict[int, int]:
    """For each axis of an operand that slices keep, the axis that it is of the slices."""
    kept = [i for i in range(len(t.shape)) if i not in without]
    return dict(zip(kept, axes, strict=True))


def _one_entry(eqn: Any, q: Poly, d: Poly, size: Poly) -> None:
    """Refuses an index that names more than an entry of an axis, or none where it has but one."""
    if size != ONE:
        raise Refused("a slice longer than 1 from an index")

    def case(q: Poly) -> Poly:
        if not nonnegative(q) or not nonnegative(-q):
            raise Refused(f"the index {q} of a dimension 1: it may be out of range")
        return q

    if d == ONE and eqn.params["mode"] != GatherScatterMode.CLIP:
        by_cases(case, q)


def _no_promises(eqn: Any, where: Tensor, batch: Any) -> None:
    """Refuses what is undefined if it is not so: that several indices are sorted or unique."""
    one = all(d == ONE for i, d in enumerate(where.shape[:-1]) if i not in batch)
    for promise in () if one else ("indices_are_sorted", "unique_indices"):
        if eqn.params.get(promise):
            raise Refused(f"{promise}=True, which is not checked")


def _component(where: Tensor, lead: dict[int, Atom | int], position: int) -> Poly:
    """The index that a table of indices holds for one axis."""
    last = len(where.shape) - 1
    new: dict[Atom, Poly] = {}
    for i, place in lead.items():
        if where.shape[i] != ONE:
            new[axis(i, where.shape[i])] = poly(place)  # type: ignore[index]
    if where.shape[last] != ONE:
        new[axis(last, where.shape[last])] = poly(position)  # type: ignore[index]
    return substitute(where.value, new)


@reads("scatter-add")
def _scatter_add(eqn: Any, t: Tensor, where: Tensor, updates: Tensor) -> Tensor:
    """Entries, or slices along whole axes, added at indices that are sure to be in range.

    Along an axis of which slices of 1 are added without an index, they are added at 0.
    """
    numbers = eqn.params["dimension_numbers"]
    if not (t.finite and where.finite and updates.finite):
        raise Refused("numbers that may be bad")
    _no_promises(eqn, where, numbers.scatter_indices_batching_dims)
    lead = _scattered(updates.shape, numbers.update_window_dims)
    inserted = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = _windows(t, inserted, numbers.update_window_dims)
    fixed = {u: axis(i, t.shape[i]) for i, u in windows.items() if updates.shape[u] == t.shape[i]}
    pairs = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    fixed |= {lead[j]: axis(i, t.shape[i]) for i, j in pairs}
    new_axes, new = renamed(updates.shape)
    for u, place in fixed.items():
        if isinstance(new_axes[u], Atom):
            new[axis(u, updates.shape[u])] = poly(place)  # type: ignore[index]
    rows = {j: fixed.get(u, new_axes[u]) for j, u in enumerate(lead)}
    value = substitute(updates.value, new)
    for i, d in enumerate(t.shape):
        size = updates.shape[windows[i]] if i in windows else ONE
        if i in numbers.scatter_dims_to_operand_dims:
            position = numbers.scatter_dims_to_operand_dims.index(i)
            value = value * _hits(eqn, _component(where, rows, position), i, d, size)
        elif i not in numbers.operand_batching_dims and size != d:
            if size != ONE:
                raise Refused("a part of an axis")
            value = value * delta(axis(i, d), 0)
    for u, bound in enumerate(new_axes):
        if isinstance(bound, Atom) and u not in fixed:
            value = total(value, bound)
    return shaped(eqn, Tensor((), t.value + value))


def _hits(eqn: Any, where: Poly, i: int, d: Poly, size: Poly) -> Poly:
    """1 at the entry of an axis that an index names, else 0."""
    _one_entry(eqn, where, d, size)
    here = axis(i, d)

    def hit(q: Poly) -> Poly:
        _in_range(q, here)  # type: ignore[arg-type]
        return delta(here, as_index(q))

    return by_cases(hit, where) if d != ONE else ONE
