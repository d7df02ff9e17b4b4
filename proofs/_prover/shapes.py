"""Reads the primitives that move entries, and those that reduce or multiply arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._normal_form import (
    ONE,
    ZERO,
    Atom,
    Poly,
    Refused,
    above_zero,
    divided,
    exp,
    fresh,
    greater,
    greatest,
    is_zero,
    log,
    poly,
    substitute,
    total,
)
from .read import dimension, no_overflow, only_booleans, reads, shape_of, shaped
from .tensor import Tensor, anywhere, axis, either, inner_axes, summed


def _moved(eqn: Any, t: Tensor, where: dict[int, int]) -> Tensor:
    """Returns t with each axis i at the position ``where[i]``; axes of size 1 may be dropped."""
    shape = shape_of(eqn.outvars[0].aval)
    for i, d in enumerate(t.shape):
        if d != ONE and shape[where[i]] != d:
            raise Refused(f"a dimension {d} that becomes {shape[where[i]]}")
    return shaped(eqn, t.placed({i: axis(where[i], d) for i, d in enumerate(t.shape)}))


@reads("broadcast_in_dim")
def _broadcast(eqn: Any, t: Tensor, *_: Tensor) -> Tensor:
    return _moved(eqn, t, dict(enumerate(eqn.params["broadcast_dimensions"])))


@reads("transpose")
def _transpose(eqn: Any, t: Tensor) -> Tensor:
    return _moved(eqn, t, {old: new for new, old in enumerate(eqn.params["permutation"])})


@reads("squeeze", "reshape")
def _reshape(eqn: Any, t: Tensor, *_: Tensor) -> Tensor:
    """Returns the entries in a new shape, in the same row-major order."""
    if eqn.params.get("dimensions") is not None and eqn.primitive.name == "reshape":
        raise Refused("a reshape that transposes")
    shape = shape_of(eqn.outvars[0].aval)
    old = [(axis(i, d), d) for i, d in enumerate(t.shape) if d != ONE]
    new = [(axis(i, d), d) for i, d in enumerate(shape) if d != ONE]
    places: dict[Atom, Poly] = {}
    for end in (0, -1):
        while old and new and old[end][1] == new[end][1]:
            places[old.pop(end)[0]] = poly(new.pop(end)[0])  # type: ignore[index]
    count = ZERO
    for here, d in new:
        count = count * d + here
    for there, d in reversed(old[1:]):
        count, places[there] = divided(count, d)  # type: ignore[index]
    if old:
        places[old[0][0]] = count  # type: ignore[index]
    return shaped(eqn, t.at(places))


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
    no_overflow(eqn)
    return Tensor((), dimension(eqn.params["dim"]), dtype=np.dtype(np.int32))


# ---------------------------------------------------------------- reductions


def _reduced(eqn: Any, t: Tensor, over: Callable[[Tensor, Atom], Tensor], out: int = 0) -> Tensor:
    gone = set(eqn.params["axes"])
    if any(isinstance(a, str) for a in gone) or eqn.params.get("axis_index_groups") is not None:
        raise Refused("shards that are not an axis of the arrays")
    kept = [i for i in range(len(t.shape)) if i not in gone]
    inner = inner_axes(t.shape, t.value, t.lowest, t.bad)
    t = t.placed(inner | {i: axis(n, t.shape[i]) for n, i in enumerate(kept)})
    for i in sorted(gone):
        if isinstance(bound := inner[i], Atom):
            t = over(t, bound)
    return shaped(eqn, t, out)


@reads("reduce_sum", "psum")
def _reduce_sum(eqn: Any, *ts: Tensor) -> list[Tensor]:
    """Returns the sum of each array; jax 0.6 sums several arrays over shards at once."""
    no_overflow(eqn, "a sum or product", signed=False)

    def over(t: Tensor, i: Atom) -> Tensor:
        return Tensor((), total(t.value, i), anywhere(t.lowest, i), anywhere(t.bad, i))

    return [_reduced(eqn, t, over, out) for out, t in enumerate(ts)]


@reads("reduce_prod")
def _reduce_prod(eqn: Any, t: Tensor) -> Tensor:
    """Returns the product of positive numbers, as ``exp`` of the sum of their logarithms."""
    no_overflow(eqn, "a sum or product", signed=False)

    def over(t: Tensor, i: Atom) -> Tensor:
        value = exp(total(_log_of_factor(t.value), i))
        return Tensor((), value, bad=anywhere(either(t.lowest, t.bad), i))

    return _reduced(eqn, t, over)


def _log_of_factor(p: Poly) -> Poly:
    if not above_zero(p):
        raise Refused(f"a product over an axis of {p}, which is not known to be positive")
    return log(p)


_RUNNING: dict[str, Callable[[Poly, Poly, Atom], Poly]] = {
    "cumsum": lambda p, counts, j: total(counts * p, j),
    "cumlogsumexp": lambda p, counts, j: log(total(counts * exp(p), j)),
    "cumprod": lambda p, counts, j: exp(total(counts * _log_of_factor(p), j)),
    "cummax": greatest,
    "cummin": lambda p, counts, j: -greatest(-p, counts, j),
}
"""Functions of an entry, of a term that is 1 if it counts, else 0, and of the index of its axis."""


@reads(*_RUNNING)
def _running(eqn: Any, t: Tensor) -> Tensor:
    """Applies a function to the entries up to each place, or from each place on."""
    name, k = eqn.primitive.name, eqn.params["axis"]
    if name in {"cumsum", "cumprod"}:
        no_overflow(eqn, "a sum or product", signed=False)
    if not t.finite:
        raise Refused("running along an axis of what may be infinite")
    here = axis(k, t.shape[k])
    if not isinstance(here, Atom):
        return t
    j = fresh(t.shape[k])
    before = poly(here) - j
    counts = greater((-before if eqn.params["reverse"] else before) + 1)
    return shaped(eqn, Tensor((), _RUNNING[name](substitute(t.value, {here: poly(j)}), counts, j)))


@reads("reduce_max", "pmax")
def _reduce_max(eqn: Any, t: Tensor) -> Tensor:
    def over(t: Tensor, i: Atom) -> Tensor:
        inside = 1 - t.lowest
        lowest = is_zero(total(inside, i))
        return Tensor((), greatest(t.value, inside, i), lowest, anywhere(t.bad, i))

    return _reduced(eqn, t, over)


@reads("reduce_or", "reduce_and")
def _reduce_truth(eqn: Any, t: Tensor) -> Tensor:
    only_booleans(eqn)
    every = eqn.primitive.name == "reduce_and"

    def over(t: Tensor, i: Atom) -> Tensor:
        some = anywhere(1 - t.value if every else t.value, i)
        return Tensor((), 1 - some if every else some, bad=anywhere(t.bad, i))

    return _reduced(eqn, t, over)


@reads("dot_general")
def _dot_general(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    if not x.finite or not y.finite:
        raise Refused("a product of matrices that may hold an infinity")
    no_overflow(eqn, "a sum or product", signed=False)
    (over_x, over_y), (batch_x, batch_y) = eqn.params["dimension_numbers"]
    shape = shape_of(eqn.outvars[0].aval)
    from_x = [i for i in range(len(x.shape)) if i not in (*over_x, *batch_x)]
    from_y = [i for i in range(len(y.shape)) if i not in (*over_y, *batch_y)]
    place_x = {i: axis(p, shape[p]) for p, i in enumerate([*batch_x, *from_x])}
    start = len(batch_x) + len(from_x)
    place_y = {i: axis(p, shape[p]) for p, i in enumerate(batch_y)}
    place_y |= {i: axis(start + p, shape[start + p]) for p, i in enumerate(from_y)}
    inner = inner_axes([x.shape[i] for i in over_x], x.value, y.value).values()
    place_x |= dict(zip(over_x, inner, strict=True))
    place_y |= dict(zip(over_y, inner, strict=True))
    value = x.placed(place_x).value * y.placed(place_y).value
    return shaped(eqn, Tensor(shape, summed(value, inner)))
