"""Evaluates the steps of derivations at numbers of 60 digits and small sizes.

This shares none of the rules that decide the steps: sums are added up, definitions are computed,
and derivatives are central differences.
"""

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import mpmath as mp
import sympy as sp
from sympy.core.function import AppliedUndef
from xent_jax.proofs._derivations.derivation import Derivation, Step
from xent_jax.proofs._derivations.terms import Gap, Index, K, Partial, Total, size_of

SIZES = (1, 2, 3, 5)
DIGITS = 60
_STEP = mp.mpf(10) ** -15  # the error of a central difference is then about 1e-30
TOLERANCE = mp.mpf(10) ** -18

_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    sp.Add: lambda *terms: sum(terms, mp.mpf(0)),
    sp.Mul: lambda *factors: mp.fprod(factors),
    sp.Pow: mp.power,
    sp.exp: mp.exp,
    sp.log: mp.log,
    sp.tanh: mp.tanh,
    sp.cosh: mp.cosh,
    sp.Max: max,
    sp.KroneckerDelta: lambda i, j: mp.mpf(i == j),
    Gap: lambda x: x - 1 - mp.log(x),
}


def differs(derivation: Derivation, before: Step, step: Step) -> str:
    """Returns numbers, as text, at which a step's relation to the one before fails, or ''."""
    with mp.workdps(DIGITS):
        for k in (k for k in SIZES if k >= derivation.least):
            here = sample(derivation, k)
            a, b = (here.value(s.expr) for s in (before, step))
            if not _related(a, b, step.relation):
                return f"for {k} classes the numbers are {mp.nstr(a)} and {mp.nstr(b)}"
    return ""


def sample(derivation: Derivation, k: int) -> "Sample":
    """Returns random numbers for a derivation, with k classes and 2 or 3 in other dimensions."""
    sides = (e for pair in derivation.definitions for e in pair)
    every = (*(s.expr for s in derivation.steps), *sides)
    parts = {part for e in every for part in sp.preorder_traversal(e)}
    whole = {p for e in parts for p in e.free_symbols | _sizes_in(e) if _is_size(p)}
    sizes = {size: 2 + n % 2 for n, size in enumerate(sorted(whole, key=str))}
    return Sample({**sizes, K: k}, derivation, (derivation.name, k))


def _sizes_in(e: sp.Basic) -> set[sp.Basic]:
    index = e.index if isinstance(e, Total) else e
    size = index.size if isinstance(index, Index) else size_of(e)
    return set() if size is None else size.free_symbols


def _is_size(e: sp.Basic) -> bool:
    return bool(e.is_integer) and not isinstance(e, Index)


def _related(a: mp.mpf, b: mp.mpf, relation: str) -> bool:
    if relation == "=":
        return bool(abs(a - b) <= TOLERANCE * (1 + abs(a) + abs(b)))
    return bool(a > b - TOLERANCE)


class Sample:
    """Numbers for every symbol and entry, given or drawn when they are needed."""

    def __init__(
        self, sizes: Mapping[sp.Expr, int], derivation: Derivation, seed: Any, values: Any = None
    ):
        """Takes from ``values`` the numbers of symbols, and arrays of entries by name."""
        self._sizes, self._definitions = sizes, derivation.definitions
        self._seed = seed
        self._drawn: dict[Any, Any] = {}
        self._given = dict(values or {})
        given = derivation.assumptions
        self._units = {a.unit for a in given}
        self._scaled = {}
        for side, value in (a.equation for a in given if a.equation):
            if isinstance(side, Total):
                self._scaled[side.body.func] = side, value
            else:  # the assumption says that the δ of two indices is 0
                i, j = side.args
                self._drawn[i], self._drawn[j] = self._dice("≠").sample(range(self.size(i.size)), 2)

    def size(self, e: sp.Expr) -> int:
        """Returns the size of a dimension as a number."""
        return math.prod(self._sizes[f] for f in e.args or (e,))

    def value(self, e: sp.Expr) -> Any:
        """Returns the value of an expression."""
        if e.is_Number:
            return mp.mpf(e.p) / e.q if e.is_Rational else mp.inf * (1 if e > 0 else -1)
        if isinstance(e, Total):
            left_out = {self.value(o) for o in e.others}
            return sum(
                (self._at({e.index: n}, e.body) for n in self._range(e.index) if n not in left_out),
                mp.mpf(0),
            )
        if isinstance(e, Partial):
            return self._difference(e)
        if e.func in _FUNCTIONS:
            return _FUNCTIONS[e.func](*(self.value(a) for a in e.args))
        if isinstance(e, sp.Symbol | AppliedUndef):
            return self._named(e)
        raise TypeError(f"{e.func.__name__} is not evaluated")

    def _range(self, index: Index) -> range:
        return range(self.size(index.size))

    def _at(self, places: Mapping[Any, Any], e: sp.Expr) -> Any:
        """Returns the value of ``e`` with other numbers for some symbols or entries."""
        before = {key: self._drawn[key] for key in places if key in self._drawn}
        self._drawn.update(places)
        try:
            return self.value(e)
        finally:
            for key in places:
                del self._drawn[key]
            self._drawn.update(before)

    def _difference(self, e: Partial) -> Any:
        x = self.value(e.by)
        key = self._key(e.by)
        above, below = (self._at({key: x + step}, e.body) for step in (_STEP, -_STEP))
        return (above - below) / (2 * _STEP)

    def _key(self, e: sp.Expr) -> Any:
        return (e.func, *(int(self.value(a)) for a in e.args)) if e.args else e

    def _named(self, e: sp.Expr) -> Any:
        if e in self._sizes:
            return mp.mpf(self._sizes[e])
        for head, body in self._definitions:
            if head == e or (head.args and head.func == e.func):
                places = (int(self.value(a)) for a in e.args)
                return self._at(dict(zip(head.args, places, strict=True)), body)
        key = self._key(e)
        if key not in self._drawn:
            self._drawn[key] = self._draw(e, key)
        return self._drawn[key]

    def _draw(self, e: sp.Expr, key: Any) -> Any:
        given = self._given.get(e.func.__name__ if e.args else e)
        if given is not None:
            return given[key[1:]].item() if e.args else given
        size = size_of(e)
        if size is not None:
            return self._dice(*self._name(key)).randrange(self.size(size))
        if e.args and e.func in self._scaled:
            lhs, rhs = self._scaled[e.func]
            every = [self._number(e, (e.func, n)) for n in self._range(lhs.index)]
            return every[key[1]] * self.value(rhs) / sum(every)
        return self._number(e, key)

    def _number(self, e: sp.Expr, key: Any) -> Any:
        size = mp.mpf(self._dice(*self._name(key)).randrange(10**30)) / 10**30
        if e in self._units:
            return size
        return size + mp.mpf("0.1") if e.is_positive else 4 * size - 2

    def _name(self, key: Any) -> tuple[Any, ...]:
        """Returns a name that is the same in every process, unlike the number of a Dummy."""
        return (key.name,) if isinstance(key, sp.Symbol) else (key[0].__name__, *key[1:])

    def _dice(self, *name: Any) -> random.Random:
        """Returns random numbers for one name, which do not depend on earlier draws."""
        return random.Random(repr((self._seed, *name)))
