"""Decides the steps of derivations, by the normal form that also decides the theorems.

``Reading`` turns an expression into a term of ``_normal_form``: a symbol or an entry such as z(i)
into an entry of an argument, a ``Total`` into a sum, a ``Partial`` into the derivative of a term.
Definitions are unfolded on the way. The term means what the expression means for every number of
classes and all real numbers. So a divisor must be shown not to be 0, and the argument of a
logarithm and the base of a real power must be shown to be positive. Otherwise the step is
undecided, which counts as a failure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef

from .. import _normal_form as f
from .._normal_form import Atom, Poly, Symbol, poly
from .._normal_form.functions import together
from .terms import Gap, Index, K, Partial, Total, size_of

_SECONDS = 60


class Undecided(Exception):
    """Raised where an equality or a sign was not shown; the message says why."""


@dataclass(frozen=True)
class Assumption:
    """An assumption of a derivation: its text, and the facts that a decision may use."""

    text: str
    equation: tuple[sp.Expr, sp.Expr] | None = None
    """A sum, or a δ of two indices, and the value that it is assumed to have."""
    least: int = 1
    """The smallest number of classes for which the assumption can hold."""
    unit: sp.Expr | None = None
    """A symbol that is assumed to lie between 0 and 1."""


Definitions = Sequence[tuple[sp.Expr, sp.Expr]]
"""Pairs of a head, which is a symbol or y(a) with an ``Index`` a, and the body it stands for."""
Assumptions = Sequence[Assumption]


def least_of(given: Assumptions) -> int:
    """Returns the smallest number of classes for which all assumptions can hold."""
    return max((a.least for a in given), default=1)


def equal(a: sp.Expr, b: sp.Expr, definitions: Definitions = (), given: Assumptions = ()) -> None:
    """Shows that ``a`` and ``b`` are equal, or raises ``Undecided``."""
    with _undecided():
        read = Reading(definitions, given)
        difference = read(a) - read(b)
        for side, value in (a.equation for a in given if a.equation):
            match read(side).power():
                case atom, 1, 1:
                    difference = f.substitute(difference, {atom: read(value)})
                case _:
                    raise Undecided(f"{side} is not one sum or δ")
        if not f.vanishes(difference):
            raise Undecided(f"left over: {difference}")


def nonnegative(
    e: sp.Expr, definitions: Definitions = (), given: Assumptions = (), strictly: bool = False
) -> None:
    """Shows that ``e`` is at least 0, or positive if ``strictly``, or raises ``Undecided``."""
    with _undecided():
        numerator, _ = together(Reading(definitions, given, bounded=True)(e))
        if not (f.positive(numerator) if strictly else f.nonnegative(numerator)):
            what = "positive" if strictly else "not negative"
            raise Undecided(f"that {e} is {what} is not shown")


@contextmanager
def _undecided() -> Iterator[None]:
    """Raises ``Undecided`` where the normal form refuses a term, or the context takes too long."""
    f.forget()
    try:
        with f.limited(_SECONDS, f"{_SECONDS} s"):
            yield
    except (f.Refused, f.Exceeded) as error:
        raise Undecided(str(error)) from error


@dataclass(frozen=True)
class Reading:
    """Turns expressions of derivations into terms of the normal form."""

    definitions: Definitions
    given: Assumptions
    bounded: bool = False
    """Whether a ``Gap`` is read as any number of at least 0, because only its sign is needed."""
    places: Mapping[sp.Expr, Poly] = field(default_factory=dict)
    """The terms that some indices stand for."""
    numbers: dict[Any, int] = field(default_factory=dict)
    """Numbers that make the names of indices, maxima and gaps unique."""

    def __call__(self, e: sp.Expr) -> Poly:
        """Returns the term that an expression means."""
        if e in self.places:
            return self.places[e]
        if e.is_Rational:
            return poly(Fraction(int(e.p), int(e.q)))
        if isinstance(e, sp.Symbol | AppliedUndef):
            return self._named(e)
        rule = _RULES.get(e.func)
        if rule is None:
            raise Undecided(f"{e.func.__name__} is not read")
        return rule(self, e)

    def index(self, e: sp.Expr) -> Atom | int:
        """Returns an expression as an index, an integer, or a ``place``: a sum of these."""
        return f.as_index(self(e))

    def product(self, factors: Sequence[sp.Expr]) -> Poly:
        """Returns the term of a product, from its factors."""
        return math.prod(map(self, factors), start=f.ONE)

    def at(self, places: Mapping[sp.Expr, Poly]) -> Reading:
        """Returns a reading in which these indices also stand for these terms."""
        return replace(self, places={**self.places, **places})

    # ------------------------------------------------------------------ what has a name

    def _named(self, e: sp.Expr) -> Poly:
        for head, body in self.definitions:
            if _name(head) == _name(e):
                return self.at(dict(zip(head.args, map(self, e.args), strict=True)))(body)
        if isinstance(e, Index):
            return poly(f.index(f"{e.name}{self._number(e)}", self._size(e.size)))
        if e.is_Symbol and e.is_integer:
            return poly(f.atom("dim", e.name, least_of(self.given) if e == K else 1))
        return f.entry(self._symbol(e), *map(self.index, e.args))

    def _size(self, size: sp.Expr) -> Poly:
        return self.product(size.args or (size,))

    def _symbol(self, e: sp.Expr) -> Symbol:
        name = e.func.__name__ if e.args else e.name
        if size_of(e) is not None:
            return Symbol(name, "index", self._size(size_of(e)))
        if any(e == a.unit for a in self.given):
            return Symbol(name, "unit")
        known = (s for s in ("positive", "nonnegative") if getattr(e, f"is_{s}"))
        return Symbol(name, next(known, "real"))

    # ------------------------------------------------------------------ functions

    def _power(self, e: sp.Pow) -> Poly:
        if e.exp.is_Integer:
            return f.power_of(self(e.base), int(e.exp))
        return f.exp(self(e.exp) * self._log(e.base))

    def _log(self, e: sp.Expr) -> Poly:
        term = self(e)
        if not f.above_zero(term):
            raise Undecided(f"that {term} is positive is not shown")
        return f.log(term)

    def _exp(self, e: sp.Expr) -> Poly:
        (x,) = e.args
        return f.ZERO if -sp.oo in sp.Add.make_args(x) else f.exp(self(x))

    def _max(self, e: sp.Max) -> Poly:
        """Returns an unknown number for a maximum, always the same one for the same terms."""
        flat = sp.Max(*e.args)  # SymPy then unnests maxima and drops -oo
        if not isinstance(flat, sp.Max):
            return self(flat)
        return self._opaque("max", "real", *map(self, flat.args))

    def _gap(self, e: Gap) -> Poly:
        (x,) = e.args
        gap = self(x) - 1 - self._log(x)
        return self._opaque("gap", "nonnegative", gap) if self.bounded else gap

    def _opaque(self, name: str, sort: str, *terms: Poly) -> Poly:
        number = self._number(name, frozenset(terms))
        free = sorted(frozenset().union(*(t.free() for t in terms)), key=repr)
        return f.entry(Symbol(f"{name}{number}", sort), *free)

    def _number(self, *key: Any) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    # ------------------------------------------------------------------ sums and derivatives

    def _total(self, e: Total) -> Poly:
        """Returns a sum; over ``Blocks`` it is two sums, over the blocks and within each."""
        binders = [f.fresh(self(size)) for size in e.index.size.args or (e.index.size,)]
        place = f.ZERO
        for i in binders:
            place = place * i.args[1] + i
        result = self.at({e.index: place})(e.body)
        for i in reversed(binders):
            result = f.total(result, i)
        for other in e.others:
            if size_of(other) != e.index.size:
                raise Undecided(f"{other} is not in the range of {e.index}")
            result = result - self.at({e.index: self(other)})(e.body)
        return result

    def _partial(self, e: Partial) -> Poly:
        if any(_name(head) == _name(e.by) for head, _ in self.definitions):
            raise Undecided(f"a derivative by {e.by}, which a definition stands for")
        if e.body.has(sp.Max) or (self.bounded and e.body.has(Gap)):
            raise Undecided("the derivative of a maximum or a bound is not read")
        return f.derivative(self(e.body), self._symbol(e.by), *map(self.index, e.by.args))


def _name(e: sp.Expr) -> Any:
    """Returns what identifies a symbol or an entry: the symbol itself, or the z of z(i)."""
    return e.func if e.args else e


_RULES: dict[Any, Callable[[Reading, Any], Poly]] = {
    sp.Add: lambda read, e: sum(map(read, e.args), f.ZERO),
    sp.Mul: lambda read, e: read.product(e.args),
    sp.Pow: Reading._power,
    sp.exp: Reading._exp,
    sp.log: lambda read, e: read._log(*e.args),
    sp.tanh: lambda read, e: f.tanh(read(*e.args)),
    sp.cosh: lambda read, e: read((sp.exp(*e.args) + sp.exp(-e.args[0])) / 2),
    sp.Max: Reading._max,
    sp.KroneckerDelta: lambda read, e: f.delta(*map(read.index, e.args)),
    Gap: Reading._gap,
    Total: Reading._total,
    Partial: Reading._partial,
}
