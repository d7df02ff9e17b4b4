"""Reading of the primitives that move entries, or add them up."""

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
from .read import assume, dimension, reads, shape_of, shaped
from .tensor import Tensor, anywhere, axis, either


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
    return shaped(eqn, t.at(new))


@reads("broadcast_in_dim")
def _broadcast(eqn: Any, t: Tensor, *_: Tensor) -> Tensor:
    return _moved(eqn, t, dict(enumerate(eqn.params["broadcast_dimensions"])))


@reads("transpose")
def _transpose(eqn: Any, t: Tensor) -> Tensor:
    return _moved(eqn, t, {old: new for new, old in enumerate(eqn.params["permutation"])})


@reads("squeeze", "reshape")
def _reshape(eqn: Any, t: Tensor, *_: Tensor) -> Tensor:
    """The same entries in the same order: counted in the one shape, and found in the other."""
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
    return shaped(eqn, t, out)


def _whole_sums(eqn: Any) -> None:
    """Refuses a sum or product of integers too small for what they may come to."""
    for dtype in (np.dtype(v.aval.dtype) for v in eqn.outvars):
        if np.issubdtype(dtype, np.integer):
            if dtype.itemsize < 4:
                raise Refused(f"a sum or product in {dtype}, which may overflow")
            assume("integer arithmetic does not leave 32 bits")


@reads("reduce_sum", "psum")
def _reduce_sum(eqn: Any, *ts: Tensor) -> list[Tensor]:
    """Of one array; jax 0.6 sums several over shards at once."""
    _whole_sums(eqn)

    def over(t: Tensor, i: Atom) -> Tensor:
        return Tensor((), total(t.value, i), anywhere(t.lowest, i), anywhere(t.bad, i))

    return [_reduced(eqn, t, over, out) for out, t in enumerate(ts)]


@reads("reduce_prod")
def _reduce_prod(eqn: Any, t: Tensor) -> Tensor:
    """The product of positive numbers, by the sum of their logarithms."""
    _whole_sums(eqn)

    def over(t: Tensor, i: Atom) -> Tensor:
        if not above_zero(t.value):
            raise Refused(f"a product over an axis of {t.value}, which is not known to be positive")
        return Tensor((), exp(total(log(t.value), i)), bad=anywhere(either(t.lowest, t.bad), i))

    return _reduced(eqn, t, over)


@reads("cumsum")
def _cumsum(eqn: Any, t: Tensor) -> Tensor:
    """The sum of the entries up to each one, or from it on."""
    _whole_sums(eqn)
    return _running(eqn, t, lambda p, counts, j: total(counts * p, j))


@reads("cumlogsumexp")
def _cumlogsumexp(eqn: Any, t: Tensor) -> Tensor:
    """The log-sum-exp of the entries up to each one, or from it on."""
    return _running(eqn, t, lambda p, counts, j: log(total(counts * exp(p), j)))


@reads("cumprod")
def _cumprod(eqn: Any, t: Tensor) -> Tensor:
    """The product of the entries up to each one, if positive, by the sum of their logarithms."""
    _whole_sums(eqn)
    if not above_zero(t.value):
        raise Refused(f"a product over an axis of {t.value}, which is not known to be positive")
    return _running(eqn, t, lambda p, counts, j: exp(total(counts * log(p), j)))


@reads("cummax")
def _cummax(eqn: Any, t: Tensor) -> Tensor:
    """The greatest of the entries up to each one, or from it on."""
    return _running(eqn, t, greatest)


@reads("cummin")
def _cummin(eqn: Any, t: Tensor) -> Tensor:
    """The least of the entries up to each one, or from it on."""
    return _running(eqn, t, lambda p, counts, j: -greatest(-p, counts, j))


def _running(eqn: Any, t: Tensor, over: Callable[[Poly, Poly, Atom], Poly]) -> Tensor:
    """Applies ``over`` to the entries up to each one, or from it on.

    ``over`` is given an entry, 1 where it counts and 0 elsewhere, and the index of the axis.
    """
    if not t.finite:
        raise Refused("running along an axis of what may be infinite")
    k = eqn.params["axis"]
    here = axis(k, t.shape[k])
    if not isinstance(here, Atom):
        return t
    j = fresh(t.shape[k])
    before = poly(here) - j
    counts = greater((-before if eqn.params["reverse"] else before) + 1)
    return shaped(eqn, Tensor((), over(substitute(t.value, {here: poly(j)}), counts, j)))


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
    return shaped(eqn, Tensor(shape, value))


def _placed(t: Tensor, places: dict[int, Atom | int]) -> Poly:
    new = {axis(i, d): poly(places[i]) for i, d in enumerate(t.shape) if d != ONE}
    return substitute(t.value, new)  # type: ignore[arg-type]
