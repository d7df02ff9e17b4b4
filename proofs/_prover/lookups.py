"""Reads gather and scatter at indices certain to be in range, and sort by a permutation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jax.lax import GatherScatterMode

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
    is_zero,
    poly,
    solved_in_permutations,
    substitute,
    within,
)
from .parts import in_range, taken
from .read import dimension, reads, shape_of, shaped
from .tensor import Tensor, axis, fresh_axis, summed


@reads("gather")
def _gather(eqn: Any, t: Tensor, where: Tensor) -> Tensor:
    """Returns slices of t, which start along each axis at an index or at 0.

    Along an axis that is batched with the indices, a slice is the entry at its place in the batch.
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
    places: dict[int, Atom | int] = {}
    looked: list[tuple[Atom, Poly, Poly, Atom | int]] = []
    for i, d in enumerate(t.shape):
        size = dimension(sizes[i])
        places[i] = here = axis(windows[i], size) if i in windows else 0
        if i in numbers.start_index_map:
            q = _component(where, rows, numbers.start_index_map.index(i))
            start = _start(eqn, q, d, size)
            if d != ONE:
                places[i] = mark = fresh(d)
                looked.append((mark, start, size, here))
        elif i in batched:
            places[i] = rows[batched[i]]
    t = t.placed(places)
    for mark, start, size, here in looked:
        t = taken(t, mark, start, size, here)
    return shaped(eqn, t)


def _scattered(shape: tuple[Poly, ...], windows: Sequence[int]) -> list[int]:
    """Returns the axes of a gather's output, or a scatter's updates, that are no axes of slices."""
    return [i for i in range(len(shape)) if i not in windows]


def _windows(t: Tensor, without: Sequence[int], axes: Sequence[int]) -> dict[int, int]:
    """Returns, for each axis of an operand that slices keep, its position in the slices."""
    kept = [i for i in range(len(t.shape)) if i not in without]
    return dict(zip(kept, axes, strict=True))


def _start(eqn: Any, q: Poly, d: Poly, size: Poly) -> Poly:
    """Returns the start of the slice that an index names: 0 if it is the whole axis.

    In mode "clip", JAX moves any other index to 0. In other modes it fills or drops the slice, so
    an index that is not surely in range is refused.
    """
    if size != d:
        return q
    if eqn.params["mode"] != GatherScatterMode.CLIP:

        def case(p: Poly) -> Poly:
            in_range(p, d, size)
            return p

        by_cases(case, q)
    return ZERO


def _no_promises(eqn: Any, where: Tensor, batch: Any) -> None:
    """Refuses the promise that indices are sorted or unique, unless it is shown to be true.

    What JAX computes is undefined if such a promise is false.
    """
    rows = [i for i, d in enumerate(where.shape[:-1]) if i not in batch and d != ONE]
    single = len(rows) == 1 and where.shape[-1] == ONE
    kept = {
        "indices_are_sorted": not rows or (single and _rises(where, rows[0])),
        "unique_indices": not rows or (single and _differ(where, rows[0])),
    }
    for promise, checked in kept.items():
        if eqn.params.get(promise) and not checked:
            raise Refused(f"{promise}=True, which is not checked")


def _differ(where: Tensor, row: int) -> bool:
    """Returns whether the indices along an axis of their table are shown to be all different."""
    i, j = axis(row, where.shape[row]), fresh(where.shape[row])
    other = substitute(where.value, {i: poly(j)})  # type: ignore[dict-item]
    return is_zero(where.value - other) == delta(i, j)


def _rises(where: Tensor, row: int) -> bool:
    """Returns whether the indices along an axis of their table rise in equal steps."""
    i = axis(row, where.shape[row])
    step = where.value.terms.get(frozenset({(i, 1)}), 0)
    return step > 0 and i not in (where.value - step * poly(i)).inside()


def _component(where: Tensor, lead: dict[int, Atom | int], position: int) -> Poly:
    """Returns one component of the indices, which lie along the last axis of their table."""
    return where.placed({**lead, len(where.shape) - 1: position}).value


@reads("scatter-add")
def _scatter_add(eqn: Any, t: Tensor, where: Tensor, updates: Tensor) -> Tensor:
    return shaped(eqn, Tensor((), t.value + _added(eqn, t, where, updates)))


@reads("scatter")
def _scatter(eqn: Any, t: Tensor, where: Tensor, updates: Tensor) -> Tensor:
    """Returns t with slices in place of its entries, and refuses slices that may overlap."""
    reached = _added(eqn, t, where, replace(updates, value=ONE))
    if reached * reached != reached:
        raise Refused("indices of which several may be the same: which one is kept is not known")
    value = t.value * (1 - reached) + _added(eqn, t, where, updates)
    return shaped(eqn, Tensor((), value))


def _added(eqn: Any, t: Tensor, where: Tensor, updates: Tensor) -> Poly:
    """Returns the sum of the updates that reach each entry of t.

    An update is a slice, which starts at an index that is certain to be in range, or at 0.
    """
    numbers = eqn.params["dimension_numbers"]
    if not (t.finite and where.finite and updates.finite):
        raise Refused("numbers that may be bad")
    _no_promises(eqn, where, numbers.scatter_indices_batching_dims)
    lead = _scattered(updates.shape, numbers.update_window_dims)
    inserted = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = _windows(t, inserted, numbers.update_window_dims)
    indexed = numbers.scatter_dims_to_operand_dims
    whole = [i for i, u in windows.items() if i not in indexed and updates.shape[u] == t.shape[i]]
    fixed = {windows[i]: axis(i, t.shape[i]) for i in whole}
    pairs = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    fixed |= {lead[j]: axis(i, t.shape[i]) for i, j in pairs}
    places = dict(enumerate(map(fresh_axis, updates.shape))) | fixed
    rows = {j: places[u] for j, u in enumerate(lead)}
    value = updates.placed(places).value
    for i, d in enumerate(t.shape):
        size = updates.shape[windows[i]] if i in windows else ONE
        start = ZERO
        if i in indexed:
            start = _component(where, rows, indexed.index(i))
            start = _start(eqn, start, d, size)
        elif i in numbers.operand_batching_dims or i in whole:
            continue
        window = places[windows[i]] if i in windows else 0
        value = value * _hits(start, window, axis(i, d), d, size)
    return summed(value, [place for u, place in places.items() if u not in fixed])


def _hits(start: Poly, window: Atom | int, here: Atom | int, d: Poly, size: Poly) -> Poly:
    """Returns 1 where an entry of a slice is added to the entry ``here`` of an axis, else 0."""

    def hit(q: Poly) -> Poly:
        in_range(q, d, size)
        return delta(here, as_index(q + window))

    return by_cases(hit, start)


@reads("sort")
def _sort(eqn: Any, keys: Tensor, *others: Tensor) -> list[Tensor]:
    """Returns arrays sorted by keys that are a permutation p: place j gets the entry at p^-1(j).

    Keys are a permutation if each j below their number is the key at exactly one place in range.
    """
    size = keys.shape[eqn.params["dimension"]]
    i, j = axis(eqn.params["dimension"], size), fresh(size)
    found = solved_in_permutations(keys.value - poly(j), i) if isinstance(i, Atom) else None
    if not keys.finite or found is None or found[1] * within(as_index(found[0]), size) != ONE:
        raise Refused("a sort by numbers that are no permutation")
    tensors = (t.at({i: found[0]}).at({j: poly(i)}) for t in (keys, *others))  # type: ignore[dict-item]
    return [shaped(eqn, t, out) for out, t in enumerate(tensors)]
