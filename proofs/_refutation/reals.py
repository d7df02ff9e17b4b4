"""Defines real numbers of many digits, with unbounded exponents, for the reader of jaxprs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath

from .entries import Refused

_MAX_BITS = 4096  # of the exponents of a function's arguments; larger ones are refused


def _of_reals(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a method that applies an operation to integers, or to reals if not all are."""

    def method(_: Reals, *values: Any) -> Any:
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
        return operation(*(values if whole else map(mpmath.mpf, values)))

    return method


def of_real(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of reals, with NaN where mpmath's has a complex result or a pole."""

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
    """The arithmetic of mpmath's real numbers, which distinguishes no cases."""

    zero, one = mpmath.mpf(0), mpmath.mpf(1)

    @property
    def pieces(self) -> Reals:
        """The arithmetic itself, because no cases are distinguished."""
        return self

    field = pieces

    def apply(self, operation: Callable[..., Any], *values: Any) -> Any:
        """Returns the result of an operation on these values."""
        return operation(*values)

    def number(self, x: Any) -> Any:
        """Returns a boolean or an integer as a real number."""
        return mpmath.mpf(x)

    def literal(self, x: Any, dtype: Any = None) -> Any:
        """Returns a literal or an entry of a captured array as it is, not as a near fraction."""
        return mpmath.mpf(float(x))

    def close(self, x: Any, y: Any) -> bool:
        """Returns whether two numbers are equal, except for rounding."""
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
        """Returns x^n for an integer n."""
        return _power(mpmath.mpf(x), mpmath.mpf(n))

    def fewer_bits(self, x: Any, bits: int) -> Any:
        """Returns x rounded to so many bits after the first one."""
        with mpmath.workprec(bits + 1):
            return +mpmath.mpf(x)

    def comparison(self, holds: Callable[[int], bool], unordered: bool = False) -> Any:
        """Returns a function of x and y: ``holds`` of x - y's sign, or ``unordered`` for NaN."""

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
    if isinstance(x, int) and isinstance(y, int):  # lax.div rounds integers towards 0
        return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    return x / y


def _power(x: Any, y: Any) -> Any:
    if x == 0 and y < 0:
        return mpmath.inf
    return mpmath.nan if x < 0 and not mpmath.isint(y) else x**y
