"""Defines the second engine's exact numbers: rational functions of symbols, exps and logs."""

import functools
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import sympy as sp
from flint import fmpq
from xent_jax.proofs._refutation.entries import Undecided

from .poly import Poly
from .rationals import Number, Rationals


class Field(Rationals):
    """The arithmetic of exact numbers, with exponentials, logarithms, signs and SymPy forms."""

    def __init__(self, size: int):
        super().__init__(size)
        self._read: dict[sp.Expr, Number] = {}
        self.logarithms: dict[Poly, set[Poly]] = {}
        """Maps each factor of an exp(x) - 1 to the numerators of x, which are 0 where it is 0."""

    def floor(self, x: Number) -> Number:
        """Returns the floor of a constant x, or an opaque number that is equal only to itself."""
        value = self.rational(x)
        if value is not None:
            return self.constant(value.numerator // value.denominator)
        expression = sp.Function("floor_of")(self.expression(x))
        return Number(self.generator(("floor", x), expression, False, kind="floor", inner=x))

    def fewer_bits(self, x: Any, bits: int) -> Number:
        """Returns an opaque number for a positive diagram x that is rounded to ``bits`` bits."""
        symbols = [g.expression for g in self.generators if g.kind == "symbol"]
        key = ("bits", x, bits)
        place = self.places.get(key, len(self.generators))
        expression = sp.Function(f"fewer_bits_{place}")(*symbols)  # ``read`` refuses its derivative
        return Number(self.generator(key, expression, True, kind="bits", inner=(x, bits)))

    def exp(self, x: Number) -> Number:
        """Returns e^x: a product over the terms of x, unless the divisor of x is a sum."""
        if not self._over_monomial(x):
            return self._exp_of(x)
        powers = dict(x.factors)
        terms = [self._reduced(self.ring.term(m, c), powers) for m, c in x.numerator.terms]
        return functools.reduce(self.multiply, map(self._exp_of_term, terms), self.one)

    def _over_monomial(self, x: Number) -> bool:
        """Returns whether the divisor of x is 1 or a product of generators."""
        return all(len(factor) == 1 for factor, _ in x.factors)

    def _exp_of_term(self, x: Number) -> Number:
        ((monomial, coefficient),) = x.numerator.terms
        if not x.factors and coefficient.q == 1 and sum(monomial) == 1:
            generator = self.generators[monomial.index(1)]
            if generator.kind == "log":
                return self.power(Number(generator.inner), int(coefficient.p))
        return self._exp_of(x)

    def _exp_of(self, x: Number) -> Number:
        """Returns e^x as exp(x / n)^n: a power of a generator, with n the integer factor of x."""
        content, primitive = x.numerator.primitive
        if primitive.leading < 0:
            content, primitive = -content, -primitive
        base = Number(primitive.scaled(1 / fmpq(content.q)), x.factors)
        expression = sp.exp(self.expression(base))
        exponential = self.generator(("exp", base), expression, True, kind="exp", inner=base)
        return self.power(Number(exponential), int(content.p))

    def log(self, x: Number) -> Number:
        """Returns log x for x > 0, split over the factors of x if they are known to be positive."""
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

    def _log_of(self, factor: Poly) -> Number:
        if len(factor) == 1 and sum(factor.degrees) == 1:
            generator = self.generators[factor.degrees.index(1)]
            if generator.kind == "exp":
                return generator.inner
        expression = sp.log(self.poly_expression(factor))
        kind = dict(kind="log", inner=factor)
        return Number(self.generator(("log", factor), expression, False, **kind))

    def _log_of_rational(self, content) -> Number:
        out = self.zero
        for sign, n in ((1, content.p), (-1, content.q)):
            for prime, power in sp.factorint(int(n)).items():
                log = self._log_of(self.ring.constant(int(prime)))
                out = self.add(out, self.multiply(self.constant(sign * power), log))
        return out

    def sign_factors(self, x: Number) -> tuple[int, list[tuple[Poly, int]]]:
        """Returns a sign and (factor, power) pairs of unknown sign, whose product has x's sign."""
        known = self.polynomial_sign(x.numerator)
        if known is not None and all(self.positive(f) for f, p in x.factors if p % 2):
            return known, []
        compared = self._comparable(x)
        content, factors = self.factors(compared.numerator)
        if compared is not x:
            for factor, _ in factors:
                self.logarithms.setdefault(factor, set()).add(x.numerator)
        sign, unknown = (1 if content > 0 else -1), []
        for factor, power in factors + tuple((f, p) for f, p in x.factors if p % 2):
            known = self.polynomial_sign(factor)
            if known is None:
                unknown.append((factor, power))
            elif known < 0 and power % 2:
                sign = -sign
        return sign, unknown

    def _comparable(self, x: Number) -> Number:
        """Returns exp(c x) - 1, c > 0, if x is a sum of integer multiples of symbols and logs.

        It has the sign of x. The sum may be divided by a product of generators, such as a
        temperature. Any other x is returned unchanged.
        """
        if not x.zero and self._over_monomial(x) and self._linear(x.numerator):
            _, primitive = x.numerator.primitive
            return self.subtract(self.exp(Number(primitive, x.factors)), self.one)
        return x

    def _linear(self, x: Poly) -> bool:
        """Returns whether x is a rational times a sum of small multiples of symbols and logs.

        Returns False as well if the sign of x is known already.
        """
        for monomial, coefficient in x.primitive[1].terms:
            if sum(monomial) != 1 or abs(coefficient) > 8:
                return False
            if self.generators[monomial.index(1)].kind not in ("symbol", "log"):
                return False
        return self.polynomial_sign(x) is None

    def relation(self, factor: Poly) -> tuple[int, Number] | None:
        """Solves factor = 0 for a symbol: returns its place and value, or None if that is hard."""
        if len(factor) == 2 and all(self.positive(t) for t in self._terms(factor)):
            one, other = self._terms(factor)
            factor = self.subtract(self.log(Number(one)), self.log(Number(other))).numerator
        for monomial, coefficient in factor.terms:
            if sum(monomial) == 1 and self.generators[monomial.index(1)].kind == "symbol":
                place = monomial.index(1)
                rest = factor - self.ring.term(monomial, coefficient)
                if place not in self.places_in(rest):
                    return place, Number(rest.scaled(-1 / coefficient))
        return None

    def modulo(self, x: Number, factor: Poly) -> Number:
        """Returns the numerator of x with log(p mod factor) for each log(p); x if none changes."""
        values: dict[int, Number] = {}
        for place in self.places_in(x.numerator):
            generator = self.generators[place]
            if generator.kind == "log":
                rest = generator.inner % factor
                if rest and rest != generator.inner:
                    values[place] = self.log(Number(rest))
        return self._at(x.numerator, values) if values else x

    def _terms(self, x: Poly) -> list[Poly]:
        return [self.ring.term(m, abs(c)) for m, c in x.terms]

    def replaced(self, x: Number, place: int, value: Number) -> Number:
        """Returns the numerator of x with a generator replaced, also inside other generators."""
        return self._at(x.numerator, {place: value})

    def _at(self, x: Poly, values: dict[int, Number]) -> Number:
        for place in self.places_in(x):
            self._follow(place, values)
        out = self.zero
        for monomial, coefficient in x.terms:
            kept = tuple(0 if i in values else e for i, e in enumerate(monomial))
            term = Number(self.ring.term(kept, coefficient))
            for place, exponent in enumerate(monomial):
                if exponent and place in values:
                    term = self.multiply(term, self.power(values[place], exponent))
            out = self.add(out, term)
        return out

    def _follow(self, place: int, values: dict[int, Number]) -> None:
        """Adds a generator's new value to ``values`` if it depends on replaced generators."""
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

    def expression(self, x: Number) -> sp.Expr:
        """Returns a number as a SymPy expression."""
        divisor = sp.Mul(*[self.poly_expression(f) ** p for f, p in x.factors])
        return self.poly_expression(x.numerator) / divisor

    def read(self, expression: sp.Expr) -> Number:
        """Returns a SymPy expression as a number."""
        if expression not in self._read:
            self._read[expression] = self._read_new(expression)
        return self._read[expression]

    def _read_new(self, e: sp.Expr) -> Number:
        if e.is_Rational:
            return self.constant(Fraction(int(e.p), int(e.q)))
        if e.is_Symbol:
            place = self.places.get(("symbol", e.name))
            if place is None:
                raise Undecided(f"an unknown symbol {e}")
            return Number(self.ring.generators[place])
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
