"""Computes with exact extended reals: numbers, both infinities and NaN, by the rules of IEEE 754.

Operations take leaves of decision diagrams (``piecewise``), and return leaves. Where a sign
decides the result and is not known, they return a diagram.
"""

import enum
import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from xent_jax.proofs._refutation.entries import Refused

from .piecewise import Pieces
from .rationals import Number


class Special(enum.Enum):
    """Values that are not real numbers."""

    ABOVE = "inf"
    BELOW = "-inf"
    NAN = "nan"


_ABOVE, _BELOW, _NAN = Special.ABOVE, Special.BELOW, Special.NAN
_OPPOSITE = {_ABOVE: _BELOW, _BELOW: _ABOVE, _NAN: _NAN}
_DENOMINATORS = 64
_BY_SIGN = {-1: _BELOW, 0: _NAN, 1: _ABOVE}


def simple_fraction(x: float, dtype: Any) -> Fraction:
    """Returns the fraction that a float literal stands for.

    This is 0 for a literal not above the smallest normal number, a fraction with a small
    denominator if the literal is its rounding, or else the literal's exact value.
    """
    if abs(x) <= float(jnp.finfo(dtype).tiny):
        return Fraction(0)
    simple = Fraction(x).limit_denominator(_DENOMINATORS)
    return simple if float(np.asarray(float(simple), dtype)) == x else Fraction(x)


class Arithmetic:
    """The operations of traced code, on leaves of diagrams."""

    def __init__(self, pieces: Pieces):
        self.pieces, self.field = pieces, pieces.field
        self.remarks: set[str] = set()

    def _by_sign(self, x: Number, choose: Callable[[int], Any]) -> Any:
        return self.pieces.apply(choose, self.pieces.sign(x))

    def number(self, x: Any) -> Any:
        """Converts a boolean or an int to a number."""
        return self.field.constant(int(x)) if isinstance(x, bool | int) else x

    def literal(self, x: Any, dtype: Any = np.float64) -> Any:
        """Converts a float literal to an infinity, NaN or the number of its ``simple_fraction``."""
        x = float(x)
        if not math.isfinite(x):
            return Special(str(x))
        simple = simple_fraction(x, dtype)
        if x and not simple:
            self.remarks.add("the smallest normal float is read as 0")
        elif simple != Fraction(x):
            self.remarks.add(f"the literal {x:.6g} is read as {simple}")
        return self.field.constant(simple)

    def close(self, x: Any, y: Any) -> bool:
        """Returns whether x - y is zero on every path."""
        difference = self.pieces.apply(self.subtract, x, y)
        return x == y or all(
            not isinstance(leaf, Special)
            and (leaf == 0 if isinstance(leaf, int) else self.pieces.zero_on(leaf, path))
            for path, leaf in self.pieces.paths(difference)
        )

    # ------------------------------------------------------------------ arithmetic

    def add(self, x, y):
        """Returns ``x + y``."""
        if isinstance(x, Number) and isinstance(y, Number):
            return self.field.add(x, y)
        if isinstance(x, int) and isinstance(y, int):
            return x + y
        special = {v for v in (x, y) if isinstance(v, Special)}
        return special.pop() if len(special) == 1 else _NAN

    def negative(self, x):
        """Returns ``-x``."""
        if isinstance(x, Special):
            return _OPPOSITE[x]
        return self.field.negative(x) if isinstance(x, Number) else -x

    def subtract(self, x, y):
        """Returns ``x - y``."""
        return self.add(x, self.negative(y))

    def multiply(self, x, y):
        """Returns ``x y``; 0 times an infinity is NaN."""
        if isinstance(x, Number) and isinstance(y, Number):
            return self.field.multiply(x, y)
        if isinstance(x, int) and isinstance(y, int):
            return x * y
        if _NAN in (x, y):
            return _NAN
        return self.pieces.apply(lambda a, b: _BY_SIGN[a * b], self._sign(x), self._sign(y))

    def divide(self, x, y):
        """Returns ``x / y``, with NaN where y is zero, because no proof needs that value."""
        if _NAN in (x, y) or (isinstance(x, Special) and isinstance(y, Special)):
            return _NAN
        if isinstance(y, Special):
            return self.field.zero
        return self._by_sign(y, lambda s: self.multiply(x, self.field.inverse(y)) if s else _NAN)

    def power(self, x, n: int):
        """Returns ``x^n`` for an integer n."""
        if n < 0:
            return self.divide(self.field.one, self.power(x, -n))
        if isinstance(x, Number):
            return self.field.power(x, n)
        return functools.reduce(self.multiply, [x] * n, self.field.one)

    def general_power(self, x, y):
        """Returns ``x^y``, or NaN for infinities and for x < 0 unless y is a small integer."""
        if isinstance(y, int):
            return self.power(x, y)
        if isinstance(y, Number) and isinstance(x, Number):
            n = self.whole(y)
            if n is not None and abs(n) <= 8:
                return self.power(x, n)
            return self._by_sign(x, lambda s: self._positive_power(x, y, s))
        return _NAN

    def _positive_power(self, x: Number, y: Number, sign: int):
        if sign < 0:
            return _NAN
        if sign == 0:
            return self._by_sign(y, lambda s: (_ABOVE, self.field.one, self.field.zero)[s + 1])
        return self.field.exp(self.field.multiply(y, self.field.log(x)))

    def whole(self, x: Number) -> int | None:
        """Returns the integer that x equals, or None if x is not a constant integer."""
        value = self.field.rational(x)
        return int(value) if value is not None and value.denominator == 1 else None

    # ------------------------------------------------------------------ functions

    def exp(self, x):
        """Returns ``e^x``."""
        if isinstance(x, Special):
            return self.field.zero if x is _BELOW else x
        return self.field.exp(x)

    def log(self, x):
        """Returns log x, which is -inf at 0 and NaN below."""
        if isinstance(x, Special):
            return _ABOVE if x is _ABOVE else _NAN
        return self._by_sign(x, lambda s: self.field.log(x) if s > 0 else (_NAN, _BELOW)[s + 1])

    def log1p(self, x):
        """Returns ``log(1 + x)``."""
        return self.log(self.add(self.field.one, x))

    def expm1(self, x):
        """Returns ``e^x - 1``."""
        return self.subtract(self.exp(x), self.field.one)

    def tanh(self, x):
        """Returns tanh x as ``(e^2x - 1) / (e^2x + 1)``."""
        if isinstance(x, Special):
            return x if x is _NAN else self.field.constant(self._sign(x))
        e = self.field.exp(self.field.multiply(self.field.constant(2), x))
        return self.divide(self.subtract(e, self.field.one), self.add(e, self.field.one))

    def absolute(self, x):
        """Returns ``|x|``."""
        if isinstance(x, Special):
            return x if x is _NAN else _ABOVE
        if isinstance(x, int):
            return abs(x)
        return self._by_sign(x, lambda s: self.negative(x) if s < 0 else x)

    def sign(self, x):
        """Returns the sign of x as a number, and NaN for NaN."""
        if x is _NAN:
            return x
        return self.pieces.apply(
            lambda s: s if isinstance(x, int) else self.number(s), self._sign(x)
        )

    def _sign(self, x) -> Any:
        if isinstance(x, Special):
            return 1 if x is _ABOVE else -1
        return (x > 0) - (x < 0) if isinstance(x, int) else self.pieces.sign(x)

    def floor(self, x):
        """Returns the floor of a number by ``Field.floor``, or x itself if it is no number."""
        return self.field.floor(x) if isinstance(x, Number) else x

    def round(self, x):
        """Returns the integer nearest to a constant, or x if it is known to be an integer."""
        if not isinstance(x, Number):
            return x
        value = self.field.rational(x)
        if value is not None:
            return self.field.constant(round(value))
        if not self.field.integral(x):
            raise Refused("round of what is not known to be an integer")
        return x

    def fewer_bits(self, x, bits: int):
        """Returns an opaque positive number for a positive diagram rounded to fewer bits."""
        if isinstance(x, Special):
            return x
        for _, leaf in self.pieces.paths(x):
            if not isinstance(leaf, Number) or self.field.sign_factors(leaf) != (1, []):
                raise Refused("reduce_precision of what is not known to be positive")
        return self.field.fewer_bits(x, bits)

    # ------------------------------------------------------------------ order

    def _compare(self, x, y) -> Any:
        """Returns the sign of x - y, or None if one is NaN."""
        if _NAN in (x, y):
            return None
        if isinstance(x, Special) or isinstance(y, Special):
            rank = {_BELOW: -1, _ABOVE: 1}
            a, b = rank.get(x, 0), rank.get(y, 0)
            return (a > b) - (a < b)
        return self._sign(self.subtract(x, y))

    def comparison(self, holds: Callable[[int], bool], unordered: bool = False):
        """Returns a comparison: ``holds`` of the sign of x - y, or ``unordered`` for NaN."""

        def compare(x, y):
            sign = self._compare(x, y)
            return unordered if sign is None else self.pieces.apply(holds, sign)

        return compare

    def maximum(self, x, y):
        """Returns the larger of x and y, or NaN if one is NaN."""
        sign = self._compare(x, y)
        return _NAN if sign is None else self.pieces.apply(lambda s: y if s < 0 else x, sign)

    def finite(self, x) -> bool:
        """Returns whether x is neither infinite nor NaN."""
        return not isinstance(x, Special)
