"""Reading of the primitives that move entries, add them up, or look them up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._functions import by_cases, greatest, is_zero
from ._normal_form import (
    ONE,
    Atom,
    Poly,
    Refused,
    as_index,
    delta,
    fresh,
    poly,
    substitute,
    total,
)
from ._read import assume, dimension, reads, shape_of
from ._signs import nonnegative
from ._tensor import Tensor, anywhere, axis, renamed


def _shaped(eqn: Any, t: Tensor, out: int = 0) -> Tensor:
    aval = eqn.outvars[out].aval
    return Tensor(shape_of(aval), t.value, t.lowest, t.bad, np.dtype(aval.dtype))


def _moved(eqn: Any, t: Tensor, where: dict[int, int]) -> Tensor:
    """Old axes at new positions; an axis that goes nowhere has size 1."""
    shape = shape_of(eqn.outvars[0].aval)
    new: dict[Atom, Poly] = {}
    for i, d in enumerate(t.shape):
        if d == ONE:
            continue
        if shape[where[i]] != d:
            raise Refused(f"a dimension {d} that becomes {shape[where[i]]}")
        new[axis(i, d)] = poly(axis(where[i], d))  # type: ignore[index]
    return _shaped(eqn, t.at(new))


@reads("broadcast_in_dim")
def _broadcast(eqn: Any, t: Tensor, *_: Tensor) -> Tensor:
    return _moved(eqn, t, dict(enumerate(eqn.params["broadcast_dimensions"])))


@reads("transpose")
def _transpose(eqn: Any, t: Tensor) -> Tensor:
    return _moved(eqn, t, {old: new for new, old in enumerate(eqn.params["permutation"])})


@reads("squeeze", "reshape")
def _reshape(eqn: Any, t: Tensor, *_: Tensor) -> Tensor:
    """Axes of size 1 come and go; nothing else is read."""
    if eqn.params.get("dimensions") is not None and eqn.primitive.name == "reshape":
        raise Refused("a reshape that transposes")
    shape = shape_of(eqn.outvars[0].aval)
    old = [i for i, d in enumerate(t.shape) if d != ONE]
    new = [i for i, d in enumerate(shape) if d != ONE]
    if [t.shape[i] for i in old] != [shape[i] for i in new]:
        raise Refused(f"a reshape from {t.shape} to {shape}")
    return _moved(eqn, t, dict(zip(old, new, strict=True)))


@reads("iota")
def _iota(eqn: Any) -> Tensor:
    aval = eqn.outvars[0].aval
    dtype = np.dtype(aval.dtype)
    shape = shape_of(aval)
    position = eqn.params["dimension"]
    if dtype.itemsize < 4 and shape[position].number() is None:
        raise Refused(f"indices in {dtype}, which may overflow")
    return Tensor(shape, poly(axis(position, shape[position])), dtype=dtype)


@reads("dim_as_value")
def _dim_as_value(eqn: Any) -> Tensor:
    assume("integer arithmetic does not leave 32 bits")
    return Tensor((), dimension(eqn.params["dim"]), dtype=np.dtype(np.int32))


# ---------------------------------------------------------------- reductions


def _reduced(eqn: Any, t: Tensor, over: Callable[[Tensor, Atom], Tensor], out: int = 0) -> Tensor:
    gone = set(eqn.params["axes"])
    if any(isinstance(a, str) for a in gone) or eqn.params.get("axis_index_groups") is not None:
        raise Refused("shards that are not an axis of the arrays")
    kept = [i for i in range(len(t.shape)) if i not in gone]
    new: dict[Atom, Poly] = {}
    inner: list[Atom] = []
    for i, d in enumerate(t.shape):
        if d == ONE:
            continue
        target = fresh(d) if i in gone else axis(kept.index(i), d)
        new[axis(i, d)] = poly(target)  # type: ignore[index]
        if i in gone and isinstance(target, Atom):
            inner.append(target)
    t = t.at(new)
    for bound in inner:
        t = over(t, bound)
    return _shaped(eqn, t, out)


def _whole_sums(eqn: Any) -> None:
    """Refuses a sum of integers too small for what they may add up to."""
    for dtype in (np.dtype(v.aval.dtype) for v in eqn.outvars):
        if np.issubdtype(dtype, np.integer):
            if dtype.itemsize < 4:
                raise Refused(f"a sum in {dtype}, which may overflow")
            assume("integer arithmetic does not leave 32 bits")


@reads("reduce_sum", "psum")
def _reduce_sum(eqn: Any, *ts: Tensor) -> list[Tensor]:
    """Of one array; jax 0.6 sums several over shards at once."""
    _whole_sums(eqn)

    def over(t: Tensor, i: Atom) -> Tensor:
        return Tensor((), total(t.value, i), anywhere(t.lowest, i), anywhere(t.bad, i))

    return [_reduced(eqn, t, over, out) for out, t in enumerate(ts)]


@reads("reduce_max", "pmax")
def _reduce_max(eqn: Any, t: Tensor) -> Tensor:
    def over(t: Tensor, i: Atom) -> Tensor:
        inside = 1 - t.lowest
        lowest = is_zero(total(inside, i))
        return Tensor((), greatest(t.value, inside, i), lowest, anywhere(t.bad, i))

    return _reduced(eqn, t, over)


@reads("reduce_or")
def _reduce_or(eqn: Any, t: Tensor) -> Tensor:
    _only_booleans(t)
    return _reduced(eqn, t, lambda t, i: Tensor((), anywhere(t.value, i), bad=anywhere(t.bad, i)))


@reads("reduce_and")
def _reduce_and(eqn: Any, t: Tensor) -> Tensor:
    _only_booleans(t)
    return _reduced(
        eqn, t, lambda t, i: Tensor((), 1 - anywhere(1 - t.value, i), bad=anywhere(t.bad, i))
    )


def _only_booleans(t: Tensor) -> None:
    if np.dtype(t.dtype) != np.bool_:
        raise Refused("bits of integers")


@reads("dot_general")
def _dot_general(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    if not x.finite or not y.finite:
        raise Refused("a product of matrices that may hold an infinity")
    _whole_sums(eqn)
    (over_x, over_y), (batch_x, batch_y) = eqn.params["dimension_numbers"]
    shape = shape_of(eqn.outvars[0].aval)
    from_x = [i for i in range(len(x.shape)) if i not in (*over_x, *batch_x)]
    from_y = [i for i in range(len(y.shape)) if i not in (*over_y, *batch_y)]
    place_x = {i: axis(p, shape[p]) for p, i in enumerate([*batch_x, *from_x])}
    start = len(batch_x) + len(from_x)
    place_y = {i: axis(p, shape[p]) for p, i in enumerate(batch_y)}
    place_y |= {i: axis(start + p, shape[start + p]) for p, i in enumerate(from_y)}
    inner = []
    for i, j in zip(over_x, over_y, strict=True):
        place_x[i] = place_y[j] = fresh(x.shape[i]) if x.shape[i] != ONE else 0
        inner.append(place_x[i])
    value = _placed(x, place_x) * _placed(y, place_y)
    for i in inner:
        value = total(value, i) if isinstance(i, Atom) else value
    return _shaped(eqn, Tensor(shape, value))


def _placed(t: Tensor, places: dict[int, Atom | int]) -> Poly:
    new = {axis(i, d): poly(places[i]) for i, d in enumerate(t.shape) if d != ONE}
    return substitute(t.value, new)  # type: ignore[arg-type]


# ---------------------------------------------------------------- look-ups


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
    return _shaped(eqn, t)


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
    if numbers.update_window_dims or numbers.operand_batching_dims:
        return _scatter_rows(eqn, t, where, updates)
    return _shaped(eqn, Tensor((), t.value + _added(numbers, t, where, updates, {})))


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
    return _shaped(eqn, Tensor((), t.value + _added(numbers, t, where, updates, fixed)))


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
