"""Reads the primitives that work entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import _normal_form as f
from .._normal_form import ONE, ZERO, Poly, Refused, atom, poly, positive
from .read import assume, no_overflow, reads, result
from .tensor import Tensor, either
from .truth import above_floor, greater


@reads("stop_gradient", "copy", "optimization_barrier", "sharding_constraint")
def _identity(eqn: Any, *xs: Tensor) -> list[Tensor]:
    return list(xs)


_FUNCTIONS: dict[str, Callable[[Poly], Poly]] = {
    "neg": lambda p: -p,
    "square": lambda p: p * p,
    "one_minus_square": lambda p: 1 - p * p,
    "abs": lambda p: p * (2 * f.greater(p) - 1),
    "sign": lambda p: f.greater(p) - f.greater(-p),
    "sqrt": f.power_of,
    "sin": f.sin,
    "cos": f.cos,
    "sinh": lambda p: (f.exp(p) - f.exp(-p)) * Fraction(1, 2),
    "cosh": lambda p: (f.exp(p) + f.exp(-p)) * Fraction(1, 2),
    "tanh": f.tanh,
    "logistic": lambda p: f.inverse(1 + f.exp(-p)),
    "erf": f.erf,
    "erfc": lambda p: 1 - f.erf(p),
    "atan": f.atan,
}
"""Functions of a finite number; the prover does not know their values at infinities."""


@reads(*_FUNCTIONS)
def _function(eqn: Any, x: Tensor) -> Tensor:
    name = eqn.primitive.name
    if name != "sign":
        no_overflow(eqn)
    return result(eqn, _FUNCTIONS[name](x.value), bad=either(x.bad, x.lowest))


@reads("exp", "exp2", "expm1")
def _exp(eqn: Any, x: Tensor) -> Tensor:
    name = eqn.primitive.name
    value = f.exp(x.value * f.log(poly(2)) if name == "exp2" else x.value)
    return result(eqn, value - x.lowest * value - (1 if name == "expm1" else 0), bad=x.bad)


@reads("log", "log1p")
def _log(eqn: Any, x: Tensor) -> Tensor:
    p = x.value + 1 if eqn.primitive.name == "log1p" else x.value
    return result(eqn, f.log(p), f.is_zero(p), either(x.bad, x.lowest))  # f.log refuses p below 0


@reads("reduce_precision")
def _reduce_precision(eqn: Any, x: Tensor) -> Tensor:
    """Returns x if all bits are kept, or else a number that is only known to be positive."""
    info = jnp.finfo(x.dtype)
    exponent, mantissa = eqn.params["exponent_bits"], eqn.params["mantissa_bits"]
    if exponent >= info.nexp and mantissa >= info.nmant:
        return x
    if exponent < info.nexp:
        raise Refused(f"{x.dtype} with an exponent of {exponent} bits, which may overflow")
    return result(eqn, f.fewer_bits(mantissa, x.value), bad=either(x.bad, x.lowest))


@reads("add", "add_any")
def _add(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    no_overflow(eqn, signed=False)
    return result(eqn, x.value + y.value, either(x.lowest, y.lowest), either(x.bad, y.bad))


@reads("sub")
def _sub(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    no_overflow(eqn)
    return result(eqn, x.value - y.value, x.lowest, either(x.bad, y.bad, y.lowest))


@reads("mul")
def _mul(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    no_overflow(eqn, signed=False)
    lowest, bad = ZERO, either(x.bad, y.bad)
    for flag, other in ((x.lowest, y), (y.lowest, x)):
        if flag.terms:
            if other.finite and positive(other.value):
                lowest = either(lowest, flag)
            else:
                bad = either(bad, flag)
    return result(eqn, x.value * y.value, lowest, bad)


@reads("div")
def _div(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    if np.issubdtype(eqn.outvars[0].aval.dtype, np.integer):
        raise Refused("division of integers")
    reciprocal = _reciprocal(y)
    bad = either(x.bad, x.lowest, reciprocal.bad)
    return result(eqn, x.value * reciprocal.value, bad=bad)


def _reciprocal(y: Tensor) -> Tensor:
    try:
        return replace(y, value=f.inverse(y.value), lowest=ZERO, bad=either(y.bad, y.lowest))
    except Refused:
        value, at_zero = f.reciprocal(y.value), f.is_zero(y.value)
        return replace(y, value=value, lowest=ZERO, bad=either(y.bad, y.lowest, at_zero))


@reads("integer_pow")
def _integer_pow(eqn: Any, x: Tensor) -> Tensor:
    no_overflow(eqn)
    e = eqn.params["y"]
    base = x if e >= 0 else _reciprocal(x)
    return result(eqn, base.value ** abs(e), bad=either(base.bad, base.lowest))


@reads("pow")
def _pow(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    no_overflow(eqn)
    bad = either(x.bad, x.lowest, y.bad, y.lowest)
    number = y.value.number()
    if number is not None and number == int(number) and number >= 0:
        return result(eqn, x.value ** int(number), bad=bad)
    if f.greater(x.value) != ONE:
        raise Refused(f"a power of {x.value}, which is not known to be positive")
    return result(eqn, f.exp(y.value * f.log(x.value)), bad=bad)


@reads("rsqrt")
def _rsqrt(eqn: Any, x: Tensor) -> Tensor:
    return _reciprocal(result(eqn, f.power_of(x.value), bad=either(x.bad, x.lowest)))


@reads("tan")
def _tan(eqn: Any, x: Tensor) -> Tensor:
    """Returns the sine over the cosine; nothing is claimed at poles, and no float is a pole."""
    over = _reciprocal(result(eqn, f.cos(x.value)))
    if f.usual(over.bad).terms:
        raise f.Kinked(f"a tangent of {x.value}, which may be at a pole")
    if over.bad.terms:
        assume("tangents are not taken at their poles")
    return result(eqn, f.sin(x.value) * over.value, bad=either(x.bad, x.lowest))


@reads("atan2")
def _atan2(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    """Returns ``atan(x / y)``, and refuses y that may not be positive, where atan2 differs."""
    if not f.above_zero(y.value):
        raise Refused(f"an angle beside {y.value}, which is not known to be positive")
    bad = either(x.bad, x.lowest, y.bad, y.lowest)
    return result(eqn, f.atan(x.value * f.inverse(y.value)), bad=bad)


@reads("max")
def _max(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    for a, b in ((x, y), (y, x)):
        number = b.value.number() if b.finite else None
        if above_floor(a, b):
            return result(eqn, a.value)
        if number is not None and number > 0:
            kept = f.at_least(number, a.value)
            return result(eqn, kept + a.lowest * (number - kept), bad=a.bad)
    for a, b in ((x, y), (y, x)) if x.finite and y.finite else ():
        if f.nonnegative(a.value - b.value):
            return result(eqn, a.value)
    above = greater(x, y)
    value = y.value + above * (x.value - y.value)
    return result(eqn, value, x.lowest * y.lowest, either(x.bad, y.bad))


@reads("min")
def _min(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    above = greater(x, y)
    value = x.value + above * (y.value - x.value)
    return result(eqn, value, either(x.lowest, y.lowest), either(x.bad, y.bad))


@reads("clamp")
def _clamp(eqn: Any, low: Tensor, x: Tensor, high: Tensor) -> Tensor:
    if x.value == poly(atom("platform")):
        return x  # jax 0.6 clamps the index of a branch
    return _min(eqn, _max(eqn, x, low), high)


@reads("floor")
def _floor(eqn: Any, x: Tensor) -> Tensor:
    return result(eqn, f.floor(x.value), x.lowest, x.bad)


@reads("ceil")
def _ceil(eqn: Any, x: Tensor) -> Tensor:
    return result(eqn, -f.floor(-x.value), x.lowest, x.bad)


@reads("round")
def _round(eqn: Any, x: Tensor) -> Tensor:
    if eqn.params["rounding_method"] != lax.RoundingMethod.TO_NEAREST_EVEN:
        raise Refused("round other than to even")
    return result(eqn, f.nearest(x.value), x.lowest, x.bad)


@reads("convert_element_type")
def _convert(eqn: Any, x: Tensor) -> Tensor:
    old, new = np.dtype(x.dtype), np.dtype(eqn.outvars[0].aval.dtype)
    if new == np.bool_:
        return result(eqn, 1 - f.is_zero(x.value), bad=either(x.bad, x.lowest))
    if np.issubdtype(new, np.integer):
        if not f.integral(x.value):
            raise Refused(f"from {old} to {new}: not known to be an integer")
        if x.value * x.value != x.value:
            if new.itemsize < 4 or (np.issubdtype(new, np.unsignedinteger)):
                raise Refused(f"from {old} to {new}, which may overflow")
            assume("integer arithmetic does not leave 32 bits")
        return result(eqn, x.value, bad=either(x.bad, x.lowest))
    _whole_numbers(x.value, new)
    return result(eqn, x.value, x.lowest, x.bad)


def _whole_numbers(p: Poly, dtype: Any) -> None:
    """Notes the assumption that integers are small enough to be exact in a floating dtype."""
    most = 2 ** (jnp.finfo(dtype).nmant + 1)
    number = p.number()
    if f.integral(p) and p * p != p and (number is None or abs(number) > most):
        assume(f"integers that become {dtype} are at most {most} in absolute value")
