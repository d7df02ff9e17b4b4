"""Wraps FLINT's polynomials with rational coefficients, so that they can be dictionary keys."""

import functools
import math
from fractions import Fraction
from typing import Any

from flint import Ordering, fmpq, fmpq_mpoly_ctx
from flint.utils.flint_exceptions import DomainError

Monomial = tuple[int, ...]  # the exponent of each generator


class Ring:
    """The ring of polynomials in ``size`` generators, with terms in lexicographic order."""

    def __init__(self, size: int):
        self._context = fmpq_mpoly_ctx.get([f"a{i}" for i in range(size)], Ordering.lex)
        self.generators = [Poly(x) for x in self._context.gens()]
        self.zero, self.one = self.constant(0), self.constant(1)

    def constant(self, value: Fraction | int) -> "Poly":
        """Returns a constant polynomial."""
        value = Fraction(value)
        return Poly(self._context.constant(fmpq(value.numerator, value.denominator)))

    def term(self, monomial: Monomial, coefficient: fmpq) -> "Poly":
        """Returns a polynomial of one term."""
        return Poly(self._context.term(coefficient, monomial))


class Poly:
    """A polynomial of FLINT that can be a key of dictionaries."""

    def __init__(self, flint: Any):
        self.flint = flint

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.flint == other.flint

    @functools.cached_property
    def _hash(self) -> int:
        return hash(str(self.flint))

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        return bool(self.flint)

    def __len__(self) -> int:
        return len(self.flint)

    def __neg__(self) -> "Poly":
        return Poly(-self.flint)

    def __add__(self, other: "Poly") -> "Poly":
        return Poly(self.flint + other.flint)

    def __sub__(self, other: "Poly") -> "Poly":
        return Poly(self.flint - other.flint)

    def __mul__(self, other: "Poly") -> "Poly":
        return Poly(self.flint * other.flint)

    def __pow__(self, n: int) -> "Poly":
        return Poly(self.flint**n)

    def __mod__(self, other: "Poly") -> "Poly":
        return Poly(self.flint % other.flint)

    def scaled(self, factor: fmpq) -> "Poly":
        """Returns the polynomial times a rational number."""
        return Poly(self.flint * factor)

    def divided(self, divisor: "Poly") -> "Poly | None":
        """Returns the quotient, or None if the divisor does not divide the polynomial."""
        try:
            return Poly(self.flint / divisor.flint)
        except DomainError:
            return None

    @functools.cached_property
    def degrees(self) -> Monomial:
        """The highest exponent of each generator; -1 in the polynomial 0."""
        return tuple(map(int, self.flint.degrees()))

    @functools.cached_property
    def terms(self) -> list[tuple[Monomial, fmpq]]:
        """The monomials with their coefficients, the leading one first."""
        return [(tuple(map(int, m)), c) for m, c in self.flint.terms()]

    @property
    def leading(self) -> fmpq:
        """The coefficient of the first term."""
        return self.flint.leading_coefficient()

    @functools.cached_property
    def primitive(self) -> tuple[fmpq, "Poly"]:
        """A positive number and a polynomial with coprime integer coefficients.

        Their product is this polynomial, which must not be 0.
        """
        coefficients = self.flint.coeffs()
        over = math.gcd(*(int(c.p) for c in coefficients))
        under = math.lcm(*(int(c.q) for c in coefficients))
        content = fmpq(over, under)
        return content, self.scaled(1 / content)

    def factored(self) -> tuple[fmpq, list[tuple["Poly", int]]]:
        """Returns a rational number, and the irreducible factors with their powers."""
        content, factors = self.flint.factor()
        return content, [(Poly(factor), int(power)) for factor, power in factors]
