"""Exact numbers of the second engine: rational functions of symbols, exponentials and logs.

A number is a SymPy polynomial over products of irreducible factors, in canonical form, so
that equal rational functions have equal parts. Exponentials and logarithms are generators
of their own: ``exp(z_0)`` is one, ``log(exp(z_0) + exp(z_1))`` another. Treating them as
independent can only hide an equality, never invent one.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
from sympy.polys.domains import QQ
from sympy.polys.orderings import lex
from sympy.polys.rings import PolyElement, PolyRing

_MOST_TERMS = 100_000  # products of terms in one multiplication
_MOST_POWER, _MOST_DEGREE, _MOST_FACTORED = 32, 40, 400
_MOST_WORK = 5_000_000  # the same, in all


class Refused(Exception):
    """A primitive, or a use of one, that this engine does not read."""


class Undecided(Exception):
    """Something that this engine cannot decide or represent; never a proof."""


class Crowded(Exception):
    """More generators than the ring has; start again with a larger one."""


@dataclass(frozen=True)
class Generator:
    """What a generator stands for, and what is known of its sign."""

    expression: sp.Expr
    positive: bool
    unit: bool = False  # below 1 as well
    kind: str = "symbol"  # "exp", "log", "floor" or "bits"
    inner: Any = None  # exp: a monomial; log: a polynomial; floor: a number; bits: a diagram


@dataclass(frozen=True)
class Number:
    """``numerator / product of factor ** power``; equal numbers have equal parts."""

    numerator: PolyElement
    factors: tuple[tuple[PolyElement, int], ...] = ()

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.numerator, self.factors))

    def __hash__(self) -> int:
        return self._hash

    @property
    def zero(self) -> bool:
        """Whether it is zero, identically."""
        return not self.numerator


class Field:
    """The numbers over a table of generators that grows as they are met."""

    def __init__(self, size: int):
        self.ring = PolyRing([f"a{i}" for i in range(size)], QQ, lex)
        self.generators: list[Generator] = []
        self._places: dict[Any, int] = {}
        self._split: dict[PolyElement, tuple[Any, tuple[tuple[PolyElement, int], ...]]] = {}
        self._signs: dict[PolyElement, int | None] = {}
        self._order: dict[PolyElement, int] = {}
        self._read: dict[sp.Expr, Number] = {}
        self._work = 0
        self.zero, self.one = Number(self.ring.zero), Number(self.ring.one)

    def _product(self, x: PolyElement, y: PolyElement) -> PolyElement:
        """x y, within the work allowed: counted, not timed, so that a run repeats."""
        self._work += len(x) * len(y)
        if self._work > _MOST_WORK or len(x) * len(y) > _MOST_TERMS:
            raise Undecided("the expressions grow too large")
        return x * y

    # ------------------------------------------------------------------ generators

    def symbol(self, name: str, positive: bool = False, unit: bool = False) -> Number:
        """An input."""
        symbol = sp.Symbol(name, positive=True) if positive else sp.Symbol(name, real=True)
        return Number(self._generator(("symbol", name), symbol, positive, unit))

    def constant(self, value: Fraction | int) -> Number:
        """A rational number."""
        value = Fraction(value)
        return Number(self.ring.ground_new(QQ(value.numerator, value.denominator)))

    def _generator(self, key, expression, positive, unit=False, kind="symbol", inner=None):
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self.generators)
            if place >= len(self.ring.gens):
                raise Crowded
            self.generators.append(Generator(expression, positive, unit, kind, inner))
        return self.ring.gens[place]

    def floor(self, x: Number) -> Number:
        """The floor of a constant; of all else an unread number, that can only cancel."""
        value = self.rational(x)
        if value is not None:
            return self.constant(value.numerator // value.denominator)
        expression = sp.Function("floor_of")(self.expression(x))
        return Number(self._generator(("floor", x), expression, False, kind="floor", inner=x))

    def fewer_bits(self, x: Any, bits: int) -> Number:
        """A positive diagram x rounded to some bits: an unread number, that can only cancel."""
        symbols = [g.expression for g in self.generators if g.kind == "symbol"]
        key = ("bits", x, bits)
        place = self._places.get(key, len(self.generators))
        expression = sp.Function(f"fewer_bits_{place}")(*symbols)  # its derivative is unread
        return Number(self._generator(key, expression, True, kind="bits", inner=(x, bits)))

    def integral(self, x: Number) -> bool:
        """Whether x is a sum of whole multiples of products of floors."""
        floors = [g.kind == "floor" for g in self.generators]
        return not x.factors and all(
            coefficient.denominator == 1 and all(f for e, f in zip(m, floors, strict=False) if e)
            for m, coefficient in x.numerator.terms()
        )

    def rational(self, x: Number) -> Fraction | None:
        """The rational constant that x is."""
        if x.zero:
            return Fraction(0)
        terms = x.numerator.terms()
        if x.factors or len(terms) > 1 or any(terms[0][0]):
            return None
        return Fraction(int(terms[0][1].numerator), int(terms[0][1].denominator))

    # ------------------------------------------------------------------ arithmetic

    def add(self, x: Number, y: Number) -> Number:
        """x + y."""
        if x.factors == y.factors:
            return self._reduced(x.numerator + y.numerator, dict(x.factors))
        powers = dict(x.factors)
        for factor, power in y.factors:
            powers[factor] = max(power, powers.get(factor, 0))
        return self._reduced(self._over(x, powers) + self._over(y, powers), powers)

    def _over(self, x: Number, powers: dict[PolyElement, int]) -> PolyElement:
        own, numerator = dict(x.factors), x.numerator
        for factor, power in powers.items():
            for _ in range(power - own.get(factor, 0)):
                numerator = self._product(numerator, factor)
        return numerator

    def negative(self, x: Number) -> Number:
        """-x."""
        return Number(-x.numerator, x.factors)

    def subtract(self, x: Number, y: Number) -> Number:
        """x - y."""
        return self.add(x, self.negative(y))

    def multiply(self, x: Number, y: Number) -> Number:
        """x y."""
        powers = dict(x.factors)
        for factor, power in y.factors:
            powers[factor] = powers.get(factor, 0) + power
        return self._reduced(self._product(x.numerator, y.numerator), powers)

    def inverse(self, x: Number) -> Number:
        """1 / x, for x that is not zero."""
        content, factors = self.factors(x.numerator)
        numerator = self._over(self.one, dict(x.factors)).mul_ground(1 / content)
        return self._reduced(numerator, dict(factors))

    def power(self, x: Number, n: int) -> Number:
        """x^n, for an integer n; x is not zero where n is negative."""
        if abs(n) > _MOST_POWER:
            raise Undecided(f"the power {n}")
        if n < 0:
            return self.power(self.inverse(x), -n)
        return functools.reduce(self.multiply, [x] * n, self.one)

    def _reduced(self, numerator: PolyElement, powers: dict[PolyElement, int]) -> Number:
        """In lowest terms: the factors are irreducible, so trial division suffices."""
        if not numerator:
            return self.zero
        left = []
        for factor, power in powers.items():
            while power and (quotient := self._divided(numerator, factor)) is not None:
                numerator, power = quotient, power - 1
            if power:
                left.append((factor, power))
        if len(left) > 1:
            left.sort(key=lambda pair: self._order.setdefault(pair[0], len(self._order)))
        return Number(numerator, tuple(left))

    def _divided(self, x: PolyElement, factor: PolyElement) -> PolyElement | None:
        """x / factor where that is a polynomial."""
        for end in (max, min):  # in lex order, of a product these are the products
            if any(a < b for a, b in zip(end(x), end(factor), strict=True)):
                return None
        quotient, rest = x.div(factor)
        return None if rest else quotient

    def divides(self, factor: PolyElement, x: Number) -> bool:
        """Whether x is zero wherever ``factor`` is."""
        return x.zero or self._divided(x.numerator, factor) is not None

    def factors(self, x: PolyElement):
        """The content and the irreducible factors, each monic, or minus that to be positive."""
        if x not in self._split:
            if len(x) > _MOST_FACTORED or max(map(sum, x), default=0) > _MOST_DEGREE:
                raise Undecided("a polynomial too large to factor")
            content, factors = self._factor_list(x)
            parts = []
            for factor, power in factors:
                lead = factor.LC
                if self.polynomial_sign(factor.monic()) == -1:
                    lead = -lead
                content *= lead**power
                parts.append((factor.mul_ground(1 / lead), power))
            self._split[x] = (content, tuple(parts))
        return self._split[x]

    def _factor_list(self, x: PolyElement):
        """SymPy's, in the generators that occur: it takes time for each that does not."""
        places = self._places_in(x)
        if not places:
            return x.LC, []
        ring = PolyRing([f"a{i}" for i in places], QQ, lex)
        small = ring.from_dict({tuple(m[i] for i in places): c for m, c in x.terms()})
        content, factors = small.factor_list()
        return content, [(self._with_all(f, places), power) for f, power in factors]

    def _with_all(self, x: PolyElement, places: list[int]) -> PolyElement:
        out = {}
        for monomial, coefficient in x.terms():
            exponents = dict(zip(places, monomial, strict=True))
            out[tuple(exponents.get(i, 0) for i in range(len(self.ring.gens)))] = coefficient
        return self.ring.from_dict(out)

    # ------------------------------------------------------------------ functions

    def exp(self, x: Number) -> Number:
        """e^x, split over the terms of x."""
        if x.factors:
            return self._exp_of_quotient(x)
        out = self.one
        for monomial, coefficient in x.numerator.terms():
            out = self.multiply(out, self._exp_of_term(monomial, coefficient))
        return out

    def _exp_of_term(self, monomial: tuple[int, ...], coefficient) -> Number:
        places = [i for i, e in enumerate(monomial) if e]
        n, d = int(coefficient.numerator), int(coefficient.denominator)
        if d == 1 and len(places) == 1 and monomial[places[0]] == 1:
            generator = self.generators[places[0]]
            if generator.kind == "log":
                return self.power(Number(generator.inner), n)
        base = self.ring.from_dict({monomial: QQ(1, d)})
        expression = sp.exp(self._poly_expression(base))
        kind = dict(kind="exp", inner=base)
        return self.power(Number(self._generator(("exp", base), expression, True, **kind)), n)

    def _exp_of_quotient(self, x: Number) -> Number:
        content, primitive = x.numerator.primitive()
        if primitive.LC < 0:
            content, primitive = -content, -primitive
        n, d = int(content.numerator), int(content.denominator)
        base = Number(primitive.mul_ground(QQ(1, d)), x.factors)
        expression = sp.exp(self.expression(base))
        kind = dict(kind="exp", inner=base)
        return self.power(Number(self._generator(("exp", base), expression, True, **kind)), n)

    def log(self, x: Number) -> Number:
        """Log x, for x > 0, split over its factors as far as they are known positive."""
        content, factors = self.factors(x.numerator)
        if content > 0 and all(self.positive(f) for f, _ in factors):
            out = self._log_of_rational(content)
        else:
            content, factors, out = 1, ((x.numerator, 1),), self.zero
        if not all(self.positive(f) for f, _ in x.factors):
            raise Undecided("the logarithm of a quotient whose divisor has no known sign")
        for sign, parts in ((1, factors), (-1, x.factors)):
            for factor, power in parts:
                term = self.multiply(self.constant(sign * power), self._log_of(factor))
                out = self.add(out, term)
        return out

    def _log_of(self, factor: PolyElement) -> Number:
        terms = factor.terms()
        if len(terms) == 1 and sum(terms[0][0]) == 1:
            generator = self.generators[terms[0][0].index(1)]
            if generator.kind == "exp":
                inner = generator.inner
                return inner if isinstance(inner, Number) else Number(inner)
        expression = sp.log(self._poly_expression(factor))
        kind = dict(kind="log", inner=factor)
        return Number(self._generator(("log", factor), expression, False, **kind))

    def _log_of_rational(self, content) -> Number:
        out = self.zero
        for sign, n in ((1, content.numerator), (-1, content.denominator)):
            for prime, power in sp.factorint(int(n)).items():
                log = self._log_of(self.ring.ground_new(QQ(int(prime))))
                out = self.add(out, self.multiply(self.constant(sign * power), log))
        return out

    # ------------------------------------------------------------------ signs

    def positive(self, x: PolyElement) -> bool:
        return self.polynomial_sign(x) == 1

    def polynomial_sign(self, x: PolyElement) -> int | None:
        """1, 0 or -1 where every value has this sign, else None."""
        if x not in self._signs:
            self._signs[x] = self._sign_by_coefficients(x)
        return self._signs[x]

    def _sign_by_coefficients(self, x: PolyElement) -> int | None:
        if not x:
            return 0
        for place, generator in enumerate(self.generators):
            if generator.unit:
                x = self._on_half_line(x, place)
        terms = x.terms()
        signs = {1 if coefficient > 0 else -1 for _, coefficient in terms}
        if len(signs) > 1:
            return None
        strict = False
        for monomial, _ in terms:
            unknown = [
                e for e, g in zip(monomial, self.generators, strict=False) if e and not g.positive
            ]
            if any(e % 2 for e in unknown):
                return None
            strict |= not unknown
        return signs.pop() if strict else None

    def _on_half_line(self, x: PolyElement, place: int) -> PolyElement:
        """With t = 1 / (1 + s), s > 0, in the place of a t in (0, 1), times (1 + s)^degree."""
        degree = max(monomial[place] for monomial in x)
        if not degree:
            return x
        out, step = self.ring.zero, self.ring.one + self.ring.gens[place]
        for monomial, coefficient in x.terms():
            rest = monomial[:place] + (0,) + monomial[place + 1 :]
            out += self.ring.from_dict({rest: coefficient}) * step ** (degree - monomial[place])
        return out

    def sign_factors(self, x: Number) -> tuple[int, list[tuple[PolyElement, int]]]:
        """A sign and factors of no known sign, whose product has the sign of x."""
        known = self.polynomial_sign(x.numerator)
        if known is not None and all(self.positive(f) for f, p in x.factors if p % 2):
            return known, []
        content, factors = self.factors(self._comparable(x).numerator)
        sign, unknown = (1 if content > 0 else -1), []
        for factor, power in factors + tuple((f, p) for f, p in x.factors if p % 2):
            known = self.polynomial_sign(factor)
            if known is None:
                unknown.append((factor, power))
            elif known < 0 and power % 2:
                sign = -sign
        return sign, unknown

    def _comparable(self, x: Number) -> Number:
        """exp(x) - 1 in place of an x that is a sum of whole multiples of z's and logs."""
        if not x.zero and not x.factors and self._linear(x.numerator):
            _, primitive = x.numerator.primitive()
            return self.subtract(self.exp(Number(primitive)), self.one)
        return x

    def _linear(self, x: PolyElement) -> bool:
        """Whether x is a rational times a sum of whole multiples of symbols and logs."""
        for monomial, coefficient in x.primitive()[1].terms():
            if sum(monomial) != 1 or abs(coefficient) > 8:
                return False
            if self.generators[monomial.index(1)].kind not in ("symbol", "log"):
                return False
        return self.polynomial_sign(x) is None

    def relation(self, factor: PolyElement) -> tuple[int, Number] | None:
        """From factor = 0: a symbol and what it then equals, where that is easily had."""
        if len(factor.terms()) == 2 and all(self.positive(t) for t in self._terms(factor)):
            one, other = self._terms(factor)
            factor = self.subtract(self.log(Number(one)), self.log(Number(other))).numerator
        for monomial, coefficient in factor.terms():
            if sum(monomial) == 1 and self.generators[monomial.index(1)].kind == "symbol":
                place = monomial.index(1)
                rest = factor - self.ring.from_dict({monomial: coefficient})
                if place not in self._places_in(rest):
                    return place, Number(rest.mul_ground(-1 / coefficient))
        return None

    def _terms(self, x: PolyElement) -> list[PolyElement]:
        return [self.ring.from_dict({m: abs(c)}) for m, c in x.terms()]

    def replaced(self, x: Number, place: int, value: Number) -> Number:
        """The numerator of x at one generator's value, and at what follows from it."""
        return self._at(x.numerator, {place: value})

    def _at(self, x: PolyElement, values: dict[int, Number]) -> Number:
        for place in self._places_in(x):
            self._follow(place, values)
        out = self.zero
        for monomial, coefficient in x.terms():
            kept = tuple(0 if i in values else e for i, e in enumerate(monomial))
            term = Number(self.ring.from_dict({kept: coefficient}))
            for place, exponent in enumerate(monomial):
                if exponent and place in values:
                    term = self.multiply(term, self.power(values[place], exponent))
            out = self.add(out, term)
        return out

    def _follow(self, place: int, values: dict[int, Number]) -> None:
        """A generator's value, where it depends on those replaced."""
        generator = self.generators[place]
        if generator.kind in ("symbol", "bits") or place in values:
            return
        inner = generator.inner
        inner = inner if isinstance(inner, Number) else Number(inner)
        new = self._at(inner.numerator, values)
        for factor, power in inner.factors:
            new = self.multiply(new, self.power(self.inverse(self._at(factor, values)), power))
        if new != inner:
            values[place] = getattr(self, generator.kind)(new)

    def _places_in(self, x: PolyElement) -> list[int]:
        return [i for i, degree in enumerate(x.degrees()) if degree > 0]

    # ------------------------------------------------------------------ SymPy's expressions

    def expression(self, x: Number) -> sp.Expr:
        """The number as SymPy writes it."""
        divisor = sp.Mul(*[self._poly_expression(f) ** p for f, p in x.factors])
        return self._poly_expression(x.numerator) / divisor

    def _poly_expression(self, x: PolyElement) -> sp.Expr:
        terms = []
        for monomial, coefficient in x.terms():
            powers = [self.generators[i].expression ** e for i, e in enumerate(monomial) if e]
            rational = sp.Rational(int(coefficient.numerator), int(coefficient.denominator))
            terms.append(sp.Mul(rational, *powers))
        return sp.Add(*terms)

    def read(self, expression: sp.Expr) -> Number:
        """A SymPy expression as a number."""
        if expression not in self._read:
            self._read[expression] = self._read_new(expression)
        return self._read[expression]

    def _read_new(self, e: sp.Expr) -> Number:
        if e.is_Rational:
            return self.constant(Fraction(int(e.p), int(e.q)))
        if e.is_Symbol:
            place = self._places.get(("symbol", e.name))
            if place is None:
                raise Undecided(f"an unknown symbol {e}")
            return Number(self.ring.gens[place])
        if e.is_Add:
            return self._fold(self.add, e.args)
        if e.is_Mul:
            return self._fold(self.multiply, e.args)
        if e is sp.E:
            return self.exp(self.one)
        if isinstance(e, sp.exp):
            return self.exp(self.read(e.args[0]))
        if isinstance(e, sp.log):
            return self.log(self.read(e.args[0]))
        if e.is_Pow and e.exp.is_Integer:
            return self.power(self.read(e.base), int(e.exp))
        if e.is_Pow:
            return self.exp(self.multiply(self.read(e.exp), self.log(self.read(e.base))))
        raise Undecided(f"{type(e).__name__} in a derivative")

    def _fold(self, operation, parts: Iterable[sp.Expr]) -> Number:
        return functools.reduce(operation, [self.read(part) for part in parts])
