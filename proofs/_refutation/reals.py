"""Real numbers of many digits, whose exponents know no bound, for the reader of jaxprs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath

from .entries import Refused

_MAX_BITS = 4096  # of the exponent of what a transcendental function is taken of


def _of_reals(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation of integers, if all are, or else of reals."""

    def method(_: Reals, *values: Any) -> Any:
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
        return operation(*(values if whole else map(mpmath.mpf, values)))

    return method


def of_real(operation: Callable[..., Any]) -> Callable[..., Any]:
    """A function of real numbers; NaN where mpmath has a complex number or a pole."""

    def apply(*values: Any) -> Any:
        numbers = list(map(mpmath.mpf, values))
        if any(mpmath.isfinite(x) and mpmath.mag(x) > _MAX_BITS for x in numbers):
            raise Refused("numbers beyond all bounds")
        try:
            result = operation(*numbers)
        except (ValueError, ZeroDivisionError):
            return mpmath.nan
        return mpmath.nan if isinstance(result, mpmath.mpc) else result

    return apply


class Reals:
    """In the place of the exact arithmetic, and of its numbers and its cases."""

    zero, one = mpmath.mpf(0), mpmath.mpf(1)

    @property
    def pieces(self) -> Reals:
        """These numbers: no case is distinguished."""
        return self

    field = pieces

    def apply(self, operation: Callable[..., Any], *values: Any) -> Any:
        """The operation of these values."""
        return operation(*values)

    def number(self, x: Any) -> Any:
        """A boolean or an integer as a number."""
        return mpmath.mpf(x)

    def literal(self, x: Any, dtype: Any = None) -> Any:
        """A literal or an entry of a captured array, as it is: no fraction is guessed."""
        return mpmath.mpf(float(x))

    def close(self, x: Any, y: Any) -> bool:
        """Whether two numbers are equal, but for rounding."""
        return bool(x == y or abs(x - y) <= mpmath.mpf(10) ** (-mpmath.mp.dps // 2))

    add = _of_reals(lambda x, y: x + y)
    subtract = _of_reals(lambda x, y: x - y)
    multiply = _of_reals(lambda x, y: x * y)
    negative = _of_reals(lambda x: -x)
    absolute = _of_reals(abs)
    exp = _of_reals(of_real(mpmath.exp))
    expm1 = _of_reals(of_real(mpmath.expm1))
    log = _of_reals(lambda x: _log(x))
    log1p = _of_reals(lambda x: _log(1 + x))
    tanh = _of_reals(of_real(mpmath.tanh))
    floor = _of_reals(mpmath.floor)
    round = _of_reals(mpmath.nint)
    sign = _of_reals(lambda x: x if mpmath.isnan(x) else mpmath.sign(x))
    finite = _of_reals(lambda x: bool(mpmath.isfinite(x)))
    maximum = _of_reals(lambda x, y: x if mpmath.isnan(x) or x > y else y)
    divide = _of_reals(lambda x, y: _quotient(x, y))
    general_power = _of_reals(lambda x, y: _power(x, y))

    def power(self, x: Any, n: int) -> Any:
        """x^n, for an integer n."""
        return _power(mpmath.mpf(x), mpmath.mpf(n))

    def fewer_bits(self, x: Any, bits: int) -> Any:
        """x with so many bits after the first."""
        with mpmath.workprec(bits + 1):
            return +mpmath.mpf(x)

    def comparison(self, holds: Callable[[int], bool], unordered: bool = False) -> Any:
        """Whether the sign of x - y is one that ``holds``."""

        def compare(x: Any, y: Any) -> bool:
            x, y = mpmath.mpf(x), mpmath.mpf(y)
            if mpmath.isnan(x) or mpmath.isnan(y):
                return unordered
            return holds((x > y) - (x < y))

        return compare


def _log(x: Any) -> Any:
    return mpmath.log(x) if x > 0 else mpmath.mpf("-inf") if x == 0 else mpmath.nan


def _quotient(x: Any, y: Any) -> Any:
    if y == 0:
        return mpmath.nan if x == 0 or mpmath.isnan(x) else mpmath.sign(x) * mpmath.inf
    if isinstance(x, int) and isinstance(y, int):  # as lax.div of integers: towards 0
        return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    return x / y


def _power(x: Any, y: Any) -> Any:
    if x == 0 and y < 0:
        return mpmath.inf
    return mpmath.nan if x < 0 and not mpmath.isint(y) else x**y
