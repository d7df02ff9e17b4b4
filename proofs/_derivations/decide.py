"""Decides the steps of derivations, by the normal form that also decides the theorems.

``Reading`` turns an expression into a term of ``_normal_form``: a symbol or an entry such as z(i)
into an entry of an argument, a ``Total`` into a sum, a ``Partial`` into the derivative of a term.
Definitions are unfolded on the way. What is read is what the expression means for every number of
classes and all real numbers. So a divisor must be shown not to be 0, and what a logarithm or a
real power is taken of must be shown to be positive; otherwise the step is undecided, and undecided
is a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from .. import _normal_form as f
from .._normal_form import Atom, Poly, Symbol, poly
from .._normal_form.functions import together
from .terms import Blocks, Gap, Index, K, Partial, Total, size_of

_SECONDS = 60


class Undecided(Exception):
    """Equality was not shown; the message says why."""


@dataclass(frozen=True)
class Assumption:
    """An assumption of a derivation, and what a decision may take from it."""

    text: str
    equation: tuple[Total, sp.Expr] | None = None
    """A sum and its value."""
    least: int = 1
    """The smallest number of classes for which it can hold."""
    same: tuple[Index, Index] | None = None
    distinct: tuple[Index, Index] | None = None
    unit: sp.Expr | None = None
    """A symbol of a number between 0 and 1."""


Definitions = Sequence[tuple[sp.Expr, sp.Expr]]
"""Heads, y(a) with an Index a or a symbol, and what they stand for."""
Assumptions = Sequence[Assumption]


def equal(a: sp.Expr, b: sp.Expr, definitions: Definitions = (), given: Assumptions = ()) -> None:
    """Returns if the two are equal; raises ``Undecided`` if that is not shown."""
    with _undecided():
        read = Reading(definitions, given)
        difference = read(a) - read(b)
        for assumption in given:
            if assumption.distinct:
                i, j = map(read.index, assumption.distinct)
                difference = f.substitute(difference, dict.fromkeys(f.delta(i, j).atoms(), f.ZERO))
            if assumption.equation:
                whole, value = map(read, assumption.equation)
                sums = {a: value for a in whole.atoms() if a.kind == "sum" and poly(a) == whole}
                if not sums:
                    raise Undecided(f"{assumption.equation[0]} is not one sum")
                difference = f.substitute(difference, sums)
        if not f.vanishes(difference):
            raise Undecided(f"left over: {difference}")


def nonnegative(
    e: sp.Expr, definitions: Definitions = (), given: Assumptions = (), strictly: bool = False
) -> None:
    """Returns if ``e`` is shown to be at least 0; raises ``Undecided`` otherwise."""
    with _undecided():
        numerator, _ = together(Reading(definitions, given, bounded=True)(e))
        if not (f.positive(numerator) if strictly else f.nonnegative(numerator)):
            what = "positive" if strictly else "not negative"
            raise Undecided(f"that {e} is {what} is not shown")


@contextmanager
def _undecided() -> Iterator[None]:
    """Inside, what the normal form refuses is undecided, and so is what takes too long."""
    f.forget()
    try:
        with f.limited(_SECONDS, f"{_SECONDS} s"):
            yield
    except (f.Refused, f.Exceeded) as error:
        raise Undecided(str(error)) from error


class Reading:
    """Turns expressions into terms."""

    def __init__(self, definitions: Definitions, given: Assumptions, bounded: bool = False):
        """``bounded`` reads a ``Gap`` as any number at least 0, where only its sign matters."""
        self.bounded = bounded
        self._defined = {(h.func if h.args else h): (h, body) for h, body in definitions}
        self._units = {a.unit for a in given}
        self._least = max((a.least for a in given), default=1)
        self._numbers: dict[Any, int] = {}  # of what is told apart by more than its name
        self._places: dict[sp.Expr, Poly] = {}  # of indices, here
        for i, j in (a.same for a in given if a.same):
            self._places[j] = self(i)

    def __call__(self, e: sp.Expr) -> Poly:
        """Returns the term."""
        if e in self._places:
            return self._places[e]
        if e.is_Rational:
            return poly(Fraction(int(e.p), int(e.q)))
        if isinstance(e, sp.Symbol | AppliedUndef):
            return self._named(e)
        if isinstance(e, sp.Add):
            return sum(map(self, e.args), f.ZERO)
        if isinstance(e, sp.Mul):
            return self._product(e.args)
        if isinstance(e, sp.Pow):
            return self._power(e)
        rule = _RULES.get(e.func)
        if rule is None:
            raise Undecided(f"{e.func.__name__} is not read")
        return rule(self, e)

    def index(self, e: sp.Expr) -> Atom | int:
        """Returns an index, or a place that is a sum of such."""
        return f.as_index(self(e))

    def _product(self, factors: tuple[sp.Expr, ...]) -> Poly:
        result = f.ONE
        for term in map(self, factors):
            result = result * term
        return result

    def _at(self, e: sp.Expr, places: Mapping[sp.Expr, Poly]) -> Poly:
        """Reads an expression where indices stand for these places."""
        before = self._places
        self._places = {**before, **places}
        try:
            return self(e)
        finally:
            self._places = before

    # ------------------------------------------------------------------ what has a name

    def _named(self, e: sp.Expr) -> Poly:
        head, body = self._defined.get(e.func if e.args else e, (None, None))
        if head is not None:
            return self._at(body, dict(zip(head.args, map(self, e.args), strict=True)))
        if isinstance(e, Index):
            return poly(f.index(f"{e.name}{self._number(e)}", self._size(e.size)))
        if e.is_Symbol and e.is_integer:
            return poly(f.atom("dim", e.name, self._least if e == K else 1))
        return f.entry(self._symbol(e), *map(self.index, e.args))

    def _size(self, size: sp.Expr) -> Poly:
        return self._product(size.args if isinstance(size, Blocks) else (size,))

    def _symbol(self, e: sp.Expr) -> Symbol:
        name = e.func.__name__ if e.args else e.name
        if size_of(e) is not None:
            return Symbol(name, "index", self._size(size_of(e)))
        if e in self._units:
            return Symbol(name, "unit")
        known = (s for s in ("positive", "nonnegative") if getattr(e, f"is_{s}"))
        return Symbol(name, next(known, "real"))

    # ------------------------------------------------------------------ functions

    def _power(self, e: sp.Pow) -> Poly:
        base = self(e.base)
        if e.exp.is_Integer:
            return base ** int(e.exp) if e.exp > 0 else f.inverse(base) ** int(-e.exp)
        return f.exp(self(e.exp) * self._log(base))

    def _log(self, term: Poly) -> Poly:
        if not f.above_zero(term):
            raise Undecided(f"that {term} is positive is not shown")
        return f.log(term)

    def _exp(self, e: sp.Expr) -> Poly:
        (x,) = e.args
        if -sp.oo in sp.Add.make_args(x):
            return f.ZERO
        return f.exp(self(x))

    def _cosh(self, e: sp.Expr) -> Poly:
        x = self(e.args[0])
        return (f.exp(x) + f.exp(-x)) * Fraction(1, 2)

    def _max(self, e: sp.Max) -> Poly:
        """Some number, the same for the same terms: that suffices for a maximum's algebra."""
        terms, left = set(), list(e.args)
        while left:
            x = left.pop()
            left += x.args if isinstance(x, sp.Max) else ()
            terms |= set() if isinstance(x, sp.Max) or x == -sp.oo else {self(x)}
        if len(terms) == 1:
            return terms.pop()
        return self._opaque("max", "real", *terms)

    def _gap(self, e: Gap) -> Poly:
        x = self(e.args[0])
        gap = x - 1 - self._log(x)
        return self._opaque("gap", "nonnegative", x) if self.bounded else gap

    def _opaque(self, name: str, sort: str, *terms: Poly) -> Poly:
        number = self._number(name, frozenset(terms))
        free = sorted(frozenset().union(*(t.free() for t in terms)), key=repr)
        return f.entry(Symbol(f"{name}{number}", sort), *free)

    def _number(self, *key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    # ------------------------------------------------------------------ sums and derivatives

    def _total(self, e: Total) -> Poly:
        result = self._whole(e)
        for other in e.others:
            if size_of(other) != e.index.size:
                raise Undecided(f"{other} is not in the range of {e.index}")
            result = result - self._at(e.body, {e.index: self(other)})
        return result

    def _whole(self, e: Total) -> Poly:
        """Reads a sum over a whole range, one in shards over these and over the classes in each."""
        sizes = e.index.size.args if isinstance(e.index.size, Blocks) else (e.index.size,)
        binders = [f.fresh(self(size)) for size in sizes]
        place = f.ZERO
        for i in binders:
            place = place * i.args[1] + i
        result = self._at(e.body, {e.index: place})
        for i in reversed(binders):
            result = f.total(result, i)
        return result

    def _partial(self, e: Partial) -> Poly:
        if (e.by.func if e.by.args else e.by) in self._defined:
            raise Undecided(f"a derivative by {e.by}, which a definition stands for")
        if e.body.has(sp.Max) or (self.bounded and e.body.has(Gap)):
            raise Undecided("the derivative of a maximum or a bound is not read")
        return f.derivative(self(e.body), self._symbol(e.by), *map(self.index, e.by.args))


_RULES: dict[Any, Callable[[Reading, Any], Poly]] = {
    sp.exp: Reading._exp,
    sp.log: lambda read, e: read._log(read(e.args[0])),
    sp.tanh: lambda read, e: f.tanh(read(e.args[0])),
    sp.cosh: Reading._cosh,
    sp.Max: Reading._max,
    sp.KroneckerDelta: lambda read, e: f.delta(*map(read.index, e.args)),
    Gap: Reading._gap,
    Total: Reading._total,
    Partial: Reading._partial,
}
