"""Reading of gather and scatter-add, at indices that are sure to be in range."""

from __future__ import annotations

from typing import Any

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
    """One entry of each indexed axis; the others whole, or batched with the indices."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if not where.finite:
        raise Refused("an index that may be bad")
    _no_promises(eqn, where, numbers.start_indices_batching_dims)
    shape = shape_of(eqn.outvars[0].aval)
    _one_entry_each(t, numbers.start_index_map, sizes, numbers.collapsed_slice_dims)
    batch = [i for i in range(len(shape)) if i not in numbers.offset_dims]
    lead = {i: axis(batch[i], shape[batch[i]]) for i in range(len(where.shape) - 1)}
    new: dict[Atom, Poly] = {}
    whole = [
        i
        for i in range(len(t.shape))
        if i not in numbers.collapsed_slice_dims and i not in numbers.operand_batching_dims
    ]
    for i, out in zip(whole, numbers.offset_dims, strict=True):
        if i not in numbers.start_index_map and t.shape[i] != ONE:
            new[axis(i, t.shape[i])] = poly(axis(out, t.shape[i]))  # type: ignore[index]
    pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    for i, j in pairs:
        if t.shape[i] != ONE:
            new[axis(i, t.shape[i])] = poly(lead[j])  # type: ignore[index]
    looked: list[tuple[Atom, int]] = []
    for position, i in enumerate(numbers.start_index_map):
        if t.shape[i] != ONE:
            mark = fresh(t.shape[i])
            new[axis(i, t.shape[i])] = poly(mark)  # type: ignore[index]
            looked.append((mark, position))
    t = t.at(new)
    for mark, position in looked:
        t = _lookup(t, mark, _component(where, lead, position))
    return shaped(eqn, t)


def _no_promises(eqn: Any, where: Tensor, batch: Any) -> None:
    """Refuses what is undefined if it is not so: that several indices are sorted or unique."""
    one = all(d == ONE for i, d in enumerate(where.shape[:-1]) if i not in batch)
    for promise in () if one else ("indices_are_sorted", "unique_indices"):
        if eqn.params.get(promise):
            raise Refused(f"{promise}=True, which is not checked")


def _one_entry_each(t: Tensor, indexed: Any, sizes: Any, collapsed: Any) -> None:
    for i, d in enumerate(t.shape):
        size = dimension(sizes[i])
        if i in indexed:
            if size != ONE:
                raise Refused("a slice longer than 1 from an index")
        elif i in collapsed:
            if d != ONE:
                raise Refused("a dropped axis without an index")
        elif size != d and size != ONE:
            raise Refused("a part of an axis")


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
    """Single entries added at indices that are sure to be in range."""
    numbers = eqn.params["dimension_numbers"]
    if not (t.finite and where.finite and updates.finite):
        raise Refused("numbers that may be bad")
    _no_promises(eqn, where, numbers.scatter_indices_batching_dims)
    if numbers.update_window_dims or numbers.operand_batching_dims:
        return _scatter_rows(eqn, t, where, updates)
    return shaped(eqn, Tensor((), t.value + _added(numbers, t, where, updates, {})))


def _scatter_rows(eqn: Any, t: Tensor, where: Tensor, updates: Tensor) -> Tensor:
    numbers = eqn.params["dimension_numbers"]
    whole = [
        i
        for i in range(len(t.shape))
        if i not in numbers.inserted_window_dims and i not in numbers.operand_batching_dims
    ]
    fixed: dict[int, Atom | int] = {}
    for i, u in zip(whole, numbers.update_window_dims, strict=True):
        if i in numbers.scatter_dims_to_operand_dims and updates.shape[u] != ONE:
            raise Refused("a slice longer than 1 at an index")
        if i not in numbers.scatter_dims_to_operand_dims:
            if updates.shape[u] != t.shape[i]:
                raise Refused("a part of an axis")
            fixed[u] = axis(i, t.shape[i])
    batch = [i for i in range(len(updates.shape)) if i not in numbers.update_window_dims]
    pairs = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    for i, j in pairs:
        fixed[batch[j]] = axis(i, t.shape[i])
    return shaped(eqn, Tensor((), t.value + _added(numbers, t, where, updates, fixed)))


def _added(
    numbers: Any, t: Tensor, where: Tensor, updates: Tensor, fixed: dict[int, Atom | int]
) -> Poly:
    new_axes, new = renamed(updates.shape)
    for u, place in fixed.items():
        if isinstance(new_axes[u], Atom):
            new[axis(u, updates.shape[u])] = poly(place)  # type: ignore[index]
    value = substitute(updates.value, new)
    batch = [i for i in range(len(updates.shape)) if i not in numbers.update_window_dims]
    places = {i: fixed.get(u, new_axes[u]) for i, u in enumerate(batch)}
    for position, i in enumerate(numbers.scatter_dims_to_operand_dims):
        if t.shape[i] == ONE:
            continue
        here = axis(i, t.shape[i])

        def hit(q: Poly, here: Any = here) -> Poly:
            _in_range(q, here)
            return delta(here, as_index(q))

        value = value * by_cases(hit, _component(where, places, position))
    for u, i in enumerate(new_axes):
        if isinstance(i, Atom) and u not in fixed:
            value = total(value, i)
    return value
