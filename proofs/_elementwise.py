"""Reading of the primitives that work entry by entry."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from . import _functions as f
from ._normal_form import ONE, ZERO, Poly, Refused, atom, poly
from ._read import assume, reads, shape_of
from ._signs import positive
from ._tensor import Tensor, either


def _out(eqn: Any, value: Poly, lowest: Poly = ZERO, bad: Poly = ZERO) -> Tensor:
    aval = eqn.outvars[0].aval
    return Tensor(shape_of(aval), value, lowest, bad, np.dtype(aval.dtype))


def _arithmetic(eqn: Any) -> None:
    """Integers must not wrap around: in 32 bits sums of sizes do not, that is assumed."""
    dtype = np.dtype(eqn.outvars[0].aval.dtype)
    if np.issubdtype(dtype, np.integer):
        if dtype.itemsize < 4 or np.issubdtype(dtype, np.unsignedinteger):
            raise Refused(f"arithmetic in {dtype}, which may overflow")
        assume("integer arithmetic does not leave 32 bits")


@reads("stop_gradient", "copy", "optimization_barrier", "sharding_constraint")
def _identity(eqn: Any, *xs: Tensor) -> list[Tensor]:
    return list(xs)


@reads("reduce_precision")
def _reduce_precision(eqn: Any, x: Tensor) -> Tensor:
    """The identity where all bits are kept; else a number of which the sign is known."""
    info = jnp.finfo(x.dtype)
    exponent, mantissa = eqn.params["exponent_bits"], eqn.params["mantissa_bits"]
    if exponent >= info.nexp and mantissa >= info.nmant:
        return x
    if exponent < info.nexp:
        raise Refused(f"{x.dtype} with an exponent of {exponent} bits, which may overflow")
    return _out(eqn, f.fewer_bits(mantissa, x.value), bad=either(x.bad, x.lowest))


@reads("add", "add_any")
def _add(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    _arithmetic(eqn)
    return _out(eqn, x.value + y.value, either(x.lowest, y.lowest), either(x.bad, y.bad))


@reads("sub")
def _sub(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    _arithmetic(eqn)
    return _out(eqn, x.value - y.value, x.lowest, either(x.bad, y.bad, y.lowest))


@reads("neg")
def _neg(eqn: Any, x: Tensor) -> Tensor:
    _arithmetic(eqn)
    return _out(eqn, -x.value, bad=either(x.bad, x.lowest))


@reads("mul")
def _mul(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    _arithmetic(eqn)
    lowest, bad = ZERO, either(x.bad, y.bad)
    for flag, other in ((x.lowest, y), (y.lowest, x)):
        if flag.terms:
            if other.finite and positive(other.value):
                lowest = either(lowest, flag)
            else:
                bad = either(bad, flag)
    return _out(eqn, x.value * y.value, lowest, bad)


@reads("div")
def _div(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    if np.issubdtype(eqn.outvars[0].aval.dtype, np.integer):
        raise Refused("division of integers")
    reciprocal = _reciprocal(y)
    bad = either(x.bad, x.lowest, reciprocal.bad)
    return _out(eqn, x.value * reciprocal.value, bad=bad)


def _reciprocal(y: Tensor) -> Tensor:
    try:
        return replace(y, value=f.inverse(y.value), lowest=ZERO, bad=either(y.bad, y.lowest))
    except Refused:
        value, at_zero = f.reciprocal(y.value), f.is_zero(y.value)
        return replace(y, value=value, lowest=ZERO, bad=either(y.bad, y.lowest, at_zero))


@reads("integer_pow")
def _integer_pow(eqn: Any, x: Tensor) -> Tensor:
    _arithmetic(eqn)
    e = eqn.params["y"]
    base = x if e >= 0 else _reciprocal(x)
    return _out(eqn, base.value ** abs(e), bad=either(base.bad, base.lowest))


@reads("square")
def _square(eqn: Any, x: Tensor) -> Tensor:
    _arithmetic(eqn)
    return _out(eqn, x.value * x.value, bad=either(x.bad, x.lowest))


@reads("one_minus_square")
def _one_minus_square(eqn: Any, x: Tensor) -> Tensor:
    _arithmetic(eqn)
    return _out(eqn, 1 - x.value * x.value, bad=either(x.bad, x.lowest))


@reads("pow")
def _pow(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    bad = either(x.bad, x.lowest, y.bad, y.lowest)
    number = y.value.number()
    if number is not None and number == int(number) and number >= 0:
        return _out(eqn, x.value ** int(number), bad=bad)
    if f.greater(x.value) != ONE:
        raise Refused(f"a power of {x.value}, which is not known to be positive")
    return _out(eqn, f.exp(y.value * f.log(x.value)), bad=bad)


@reads("sqrt")
def _sqrt(eqn: Any, x: Tensor) -> Tensor:
    return _out(eqn, f.power_of(x.value, Fraction(1, 2)), bad=either(x.bad, x.lowest))


@reads("rsqrt")
def _rsqrt(eqn: Any, x: Tensor) -> Tensor:
    return _out(eqn, f.power_of(x.value, Fraction(-1, 2)), bad=either(x.bad, x.lowest))


@reads("exp")
def _exp(eqn: Any, x: Tensor) -> Tensor:
    value = f.exp(x.value)
    return _out(eqn, value - x.lowest * value, bad=x.bad)


@reads("expm1")
def _expm1(eqn: Any, x: Tensor) -> Tensor:
    value = f.exp(x.value)
    return _out(eqn, value - x.lowest * value - 1, bad=x.bad)


@reads("log")
def _log(eqn: Any, x: Tensor) -> Tensor:
    return _log_of(eqn, x.value, either(x.bad, x.lowest))


@reads("log1p")
def _log1p(eqn: Any, x: Tensor) -> Tensor:
    return _log_of(eqn, x.value + 1, either(x.bad, x.lowest))


def _log_of(eqn: Any, p: Poly, bad: Poly) -> Tensor:
    value = f.log(p)  # refused where it may be negative
    return _out(eqn, value, f.is_zero(p), bad)


@reads("tanh")
def _tanh(eqn: Any, x: Tensor) -> Tensor:
    return _out(eqn, f.tanh(x.value), bad=either(x.bad, x.lowest))


@reads("logistic")
def _logistic(eqn: Any, x: Tensor) -> Tensor:
    return _out(eqn, f.inverse(1 + f.exp(-x.value)), bad=either(x.bad, x.lowest))


@reads("abs")
def _abs(eqn: Any, x: Tensor) -> Tensor:
    _arithmetic(eqn)
    value = x.value * (2 * f.greater(x.value) - 1)
    return _out(eqn, value, bad=either(x.bad, x.lowest))


@reads("sign")
def _sign(eqn: Any, x: Tensor) -> Tensor:
    value = f.greater(x.value) - f.greater(-x.value)
    return _out(eqn, value, bad=either(x.bad, x.lowest))


def _above_floor(x: Tensor, y: Tensor) -> bool:
    """Whether y is a number below all normal ones, and x a positive term: taken to be above."""
    number = y.value.number() if y.finite else None
    if number is None or number <= 0 or not jnp.issubdtype(y.dtype, jnp.floating):
        return False
    if number > float(jnp.finfo(y.dtype).tiny) or not x.finite or not f.above_zero(x.value):
        return False
    assume(f"positive numbers that are kept above {float(number):.3g} are above it")
    return True


@reads("max")
def _max(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    for a, b in ((x, y), (y, x)):
        number = b.value.number() if b.finite else None
        if _above_floor(a, b):
            return _out(eqn, a.value)
        if number is not None and number > 0:
            kept = f.at_least(number, a.value)
            return _out(eqn, kept + a.lowest * (number - kept), bad=a.bad)
    above = _greater(x, y)
    value = y.value + above * (x.value - y.value)
    return _out(eqn, value, x.lowest * y.lowest, either(x.bad, y.bad))


@reads("min")
def _min(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    above = _greater(x, y)
    value = x.value + above * (y.value - x.value)
    return _out(eqn, value, either(x.lowest, y.lowest), either(x.bad, y.bad))


@reads("clamp")
def _clamp(eqn: Any, low: Tensor, x: Tensor, high: Tensor) -> Tensor:
    if x.value == poly(atom("platform")):
        return x  # jax 0.6: to the branches that there are
    return _min(eqn, _max(eqn, x, low), high)


@reads("floor")
def _floor(eqn: Any, x: Tensor) -> Tensor:
    return _out(eqn, f.floor(x.value), x.lowest, x.bad)


@reads("ceil")
def _ceil(eqn: Any, x: Tensor) -> Tensor:
    return _out(eqn, -f.floor(-x.value), x.lowest, x.bad)


@reads("round")
def _round(eqn: Any, x: Tensor) -> Tensor:
    if eqn.params["rounding_method"] != lax.RoundingMethod.TO_NEAREST_EVEN:
        raise Refused("round other than to even")
    return _out(eqn, f.nearest(x.value), x.lowest, x.bad)


@reads("convert_element_type")
def _convert(eqn: Any, x: Tensor) -> Tensor:
    old, new = np.dtype(x.dtype), np.dtype(eqn.outvars[0].aval.dtype)
    if new == np.bool_:
        return _out(eqn, 1 - f.is_zero(x.value), bad=either(x.bad, x.lowest))
    if np.issubdtype(new, np.integer):
        if not f.integral(x.value):
            raise Refused(f"from {old} to {new}: not known to be an integer")
        if x.value * x.value != x.value:
            if new.itemsize < 4 or (np.issubdtype(new, np.unsignedinteger)):
                raise Refused(f"from {old} to {new}, which may overflow")
            assume("integer arithmetic does not leave 32 bits")
        return _out(eqn, x.value, bad=either(x.bad, x.lowest))
    return _out(eqn, x.value, x.lowest, x.bad)


# ---------------------------------------------------------------- truth values


def _greater(x: Tensor, y: Tensor) -> Poly:
    """``[x > y]``, where neither is bad."""
    if _above_floor(x, y):
        return ONE
    if _above_floor(y, x):
        return ZERO
    finite = f.greater(x.value - y.value)
    return (1 - x.lowest) * (y.lowest + (1 - y.lowest) * finite)


def _compare(eqn: Any, x: Tensor, y: Tensor, value: Poly) -> Tensor:
    return _out(eqn, value, bad=either(x.bad, y.bad))


@reads("gt")
def _gt(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    if x.infinite or y.infinite:
        return _beside_infinity(eqn, x, y, x.infinite)
    return _compare(eqn, x, y, _greater(x, y))


@reads("lt")
def _lt(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    return _gt(eqn, y, x)


@reads("le")
def _le(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    out = _gt(eqn, x, y)
    return replace(out, value=1 - out.value)


@reads("ge")
def _ge(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    return _le(eqn, y, x)


@reads("eq")
def _eq(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    if x.infinite or y.infinite:
        return _beside_infinity(eqn, x, y, False)
    if _above_floor(x, y) or _above_floor(y, x):
        return _out(eqn, ZERO)
    finite = (1 - x.lowest) * (1 - y.lowest)
    value = x.lowest * y.lowest + finite * f.is_zero(x.value - y.value)
    return _compare(eqn, x, y, value)


@reads("ne")
def _ne(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    out = _eq(eqn, x, y)
    return replace(out, value=1 - out.value)


def _beside_infinity(eqn: Any, x: Tensor, y: Tensor, holds: bool) -> Tensor:
    other = x if y.infinite else y
    if other.infinite:
        raise Refused("a comparison of infinities")
    return _out(eqn, ONE if holds else ZERO, bad=other.bad)


def _booleans(eqn: Any) -> None:
    if np.dtype(eqn.outvars[0].aval.dtype) != np.bool_:
        raise Refused("bits of integers")


@reads("and")
def _and(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    _booleans(eqn)
    return _out(eqn, x.value * y.value, bad=either(x.bad, y.bad))


@reads("or")
def _or(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    _booleans(eqn)
    return _out(eqn, either(x.value, y.value), bad=either(x.bad, y.bad))


@reads("xor")
def _xor(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    _booleans(eqn)
    value = x.value + y.value - 2 * x.value * y.value
    return _out(eqn, value, bad=either(x.bad, y.bad))


@reads("not")
def _not(eqn: Any, x: Tensor) -> Tensor:
    _booleans(eqn)
    return _out(eqn, 1 - x.value, bad=x.bad)


@reads("is_finite")
def _is_finite(eqn: Any, x: Tensor) -> Tensor:
    return _out(eqn, 1 - either(x.lowest, x.bad))


@reads("select_n")
def _select_n(eqn: Any, which: Tensor, *cases: Tensor) -> Tensor:
    if len(cases) != 2 or which.value * which.value != which.value:
        raise Refused("a choice among more than two")
    no, yes = cases
    w = which.value

    def mixed(a: Poly, b: Poly) -> Poly:
        return a + w * (b - a)

    nowhere = [ONE in (t.lowest, t.bad) for t in cases]  # there the term means nothing
    value = yes.value if nowhere[0] else no.value if nowhere[1] else mixed(no.value, yes.value)
    return Tensor(
        no.shape or yes.shape or which.shape,
        value,
        mixed(no.lowest, yes.lowest),
        either(mixed(no.bad, yes.bad), which.bad),
        yes.dtype,
    )
