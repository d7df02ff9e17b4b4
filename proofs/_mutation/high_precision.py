"""Jaxprs run on real numbers of hundreds of digits, whose exponents know no bound.

What float64 computes differently is there told from what is different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
from jax.extend import core

from .._second_engine.entries import filled
from .._second_engine.extended import Special
from .._second_engine.reading import Reader
from .concretize import specialized

_DIGITS = 300
_SPECIAL = {
    Special.ABOVE: mpmath.mpf("inf"), Special.BELOW: mpmath.mpf("-inf"), Special.NAN: mpmath.nan,
}  # fmt: skip


def same(
    one: core.ClosedJaxpr,
    other: core.ClosedJaxpr,
    point: Sequence[np.ndarray],
    size: Mapping[str, int],
    platform: int,
) -> bool:
    """Whether two jaxprs of symbolic sizes give the same numbers at a point."""
    with mpmath.workdps(_DIGITS):
        outs = [
            [_real(x) for out in _outputs(specialized(j, size, platform), point) for x in out.flat]
            for j in (one, other)
        ]
        return all(map(_equal, *outs))


def _outputs(jaxpr: core.ClosedJaxpr, point: Sequence[np.ndarray]) -> list[np.ndarray]:
    arrays = [filled(np.shape(a), [_entry(x) for x in np.ravel(a)]) for a in point]
    return Reader(_Reals()).run(jaxpr, *arrays)  # type: ignore[arg-type]


def _entry(x: Any) -> Any:
    return bool(x) if x.dtype == np.bool_ else int(x) if x.dtype.kind == "i" else mpmath.mpf(x)


def _equal(x: Any, y: Any) -> bool:
    if mpmath.isnan(x) or mpmath.isnan(y) or mpmath.isinf(x) or mpmath.isinf(y):
        return bool(x == y or (mpmath.isnan(x) and mpmath.isnan(y)))
    return bool(abs(x - y) <= mpmath.mpf(10) ** (-_DIGITS // 4) * (1 + abs(y)))


def _real(x: Any) -> Any:
    return _SPECIAL[x] if isinstance(x, Special) else mpmath.mpf(x)


def _of_reals(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation of integers, if all are, or else of reals."""

    def method(_: _Reals, *values: Any) -> Any:
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
        return operation(*(values if whole else map(_real, values)))

    return method


class _Reals:
    """In the place of the exact arithmetic, and of its numbers and its cases."""

    zero, one = mpmath.mpf(0), mpmath.mpf(1)

    @property
    def pieces(self) -> _Reals:
        return self

    field = pieces

    def apply(self, operation: Callable[..., Any], *values: Any) -> Any:
        return operation(*values)

    def constant(self, value: Any) -> Any:
        return mpmath.mpf(value.numerator) / value.denominator

    def number(self, x: Any) -> Any:
        return _real(x)

    add = _of_reals(lambda x, y: x + y)
    subtract = _of_reals(lambda x, y: x - y)
    multiply = _of_reals(lambda x, y: x * y)
    negative = _of_reals(lambda x: -x)
    absolute = _of_reals(abs)
    exp = _of_reals(mpmath.exp)
    expm1 = _of_reals(mpmath.expm1)
    log = _of_reals(lambda x: _log(x))
    log1p = _of_reals(lambda x: _log(1 + x))
    tanh = _of_reals(mpmath.tanh)
    floor = _of_reals(mpmath.floor)
    round = _of_reals(mpmath.nint)
    sign = _of_reals(lambda x: x if mpmath.isnan(x) else mpmath.sign(x))
    finite = _of_reals(lambda x: bool(mpmath.isfinite(x)))
    maximum = _of_reals(lambda x, y: x if mpmath.isnan(x) or x > y else y)
    divide = _of_reals(lambda x, y: _quotient(x, y))
    general_power = _of_reals(lambda x, y: _power(x, y))

    def power(self, x: Any, n: int) -> Any:
        return _power(_real(x), mpmath.mpf(n))

    def fewer_bits(self, x: Any, bits: int) -> Any:
        with mpmath.workprec(bits + 1):
            return +_real(x)

    def comparison(self, holds: Callable[[int], bool], unordered: bool = False) -> Any:
        def compare(x: Any, y: Any) -> bool:
            x, y = _real(x), _real(y)
            if mpmath.isnan(x) or mpmath.isnan(y):
                return unordered
            return holds((x > y) - (x < y))

        return compare


def _log(x: Any) -> Any:
    return mpmath.log(x) if x > 0 else mpmath.mpf("-inf") if x == 0 else mpmath.nan


def _quotient(x: Any, y: Any) -> Any:
    if y == 0:
        return mpmath.nan if x == 0 or mpmath.isnan(x) else mpmath.sign(x) * mpmath.inf
    return x / y


def _power(x: Any, y: Any) -> Any:
    if x == 0 and y < 0:
        return mpmath.inf
    return mpmath.nan if x < 0 and not mpmath.isint(y) else x**y
