"""Reads jaxprs as terms, and refuses every primitive that has no rule, by its name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from fractions import Fraction
from typing import Any

import numpy as np
from jax.dtypes import float0
from jax.extend import core

from .._jax_internals import is_origin, symbolic_terms, where_written
from .._normal_form import (
    ONE,
    PI,
    ZERO,
    Number,
    Poly,
    Refused,
    any_number,
    atom,
    nonnegative,
    poly,
    power_of,
    product,
    same_place,
    vanishes,
)
from .layers import named
from .tensor import Tensor, axes, either

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
assumed: ContextVar[dict[str, None] | None] = ContextVar("assumed", default=None)
least_sizes: ContextVar[dict[str, int]] = ContextVar("least_sizes", default={})  # noqa: B039
wanted_sizes: ContextVar[dict[str, int] | None] = ContextVar("wanted_sizes", default=None)


def reads(*names: str) -> Callable[[Rule], Rule]:
    """Registers the decorated rule, ``(eqn, *operands) -> tensor or tensors``, for primitives."""

    def register(rule: Rule) -> Rule:
        for name in names:
            RULES[name] = rule
        return rule

    return register


def assume(text: str) -> None:
    """Notes an assumption that the current proof rests on."""
    notes = assumed.get()
    if notes is not None:
        notes[text] = None


def dimension(d: Any) -> Poly:
    """Returns a size, symbolic or not, as a term."""
    if isinstance(d, int | np.integer):
        return poly(int(d))
    terms = symbolic_terms(d, remainders=True)
    if terms is None:
        raise Refused(f"the dimension {d}")
    result = ZERO
    for coefficient, factors in terms:
        term = poly(coefficient)
        for name, e in factors:
            term = term * _factor(name) ** e
        result = result + term
    return result


def _factor(name: Any) -> Poly:
    """Returns a named size or ``number % size`` as a term.

    Refuses a remainder that is not certain to be the number itself, or the number plus the size.
    """
    if isinstance(name, str):
        return poly(atom("dim", name, least_sizes.get().get(name, 1)))
    number, size = name[0], dimension(name[1])
    low = number + 1 if number >= 0 else -number
    if not nonnegative(size - low):
        _ask_for(size, low)
        raise Refused(
            f"the remainder of {number} by {size}, which may be smaller: such a size as that of an "
            f"array that is rolled needs a least one, least={{'n': {low}}}"
        )
    return size + number if number < 0 else poly(number)


def _ask_for(size: Poly, low: int) -> None:
    """Notes the least value that a named size must have; smaller sizes are proved separately."""
    asked, term = wanted_sizes.get(), size.single()
    if asked is not None and term is not None and len(term[0]) == 1:
        ((a, e),) = term[0]
        if a.kind == "dim" and e == 1:
            asked[a.args[0]] = max(asked.get(a.args[0], 1), math.ceil(Fraction(low) / term[1]))


def shape_of(aval: Any) -> tuple[Poly, ...]:
    """Returns the shape of a jaxpr's variable, as terms."""
    return tuple(dimension(d) for d in aval.shape)


def result(eqn: Any, value: Poly, lowest: Poly = ZERO, bad: Poly = ZERO) -> Tensor:
    """Returns the only output of an equation, given its term and its flags."""
    return shaped(eqn, Tensor((), value, lowest, bad))


def shaped(eqn: Any, t: Tensor, out: int = 0) -> Tensor:
    """Returns t with the shape and dtype of an output of an equation."""
    aval = eqn.outvars[out].aval
    return Tensor(shape_of(aval), t.value, t.lowest, t.bad, np.dtype(aval.dtype))


def no_overflow(eqn: Any, what: str = "arithmetic", signed: bool = True) -> None:
    """Refuses arithmetic of short integers, and notes the assumption that 32 bits are enough.

    If ``signed``, unsigned dtypes are refused as well, because the result may be negative even if
    no operand is.
    """
    for dtype in (np.dtype(v.aval.dtype) for v in eqn.outvars):
        if np.issubdtype(dtype, np.integer):
            if dtype.itemsize < 4 or (signed and np.issubdtype(dtype, np.unsignedinteger)):
                raise Refused(f"{what} in {dtype}, which may overflow")
            assume("integer arithmetic does not leave 32 bits")


def only_booleans(eqn: Any) -> None:
    """Refuses operations on the bits of integers."""
    if np.dtype(eqn.outvars[0].aval.dtype) != np.bool_:
        raise Refused("bits of integers")


def read(jaxpr: core.ClosedJaxpr, args: Sequence[Tensor]) -> list[Tensor]:
    """Returns the outputs of a jaxpr as terms of its arguments."""
    return _read(jaxpr.jaxpr, jaxpr.consts, args)


def _read(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Tensor]) -> list[Tensor]:
    known: dict[Any, Tensor] = {}
    known.update(zip(jaxpr.constvars, map(constant, consts), strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))

    def look_up(v: Any) -> Tensor:
        return constant(v.val, v.aval) if isinstance(v, core.Literal) else known[v]

    for eqn in jaxpr.eqns:
        outs = _equation(eqn, [look_up(v) for v in eqn.invars])
        known.update(zip(eqn.outvars, outs, strict=True))
    return [look_up(v) for v in jaxpr.outvars]


def _equation(eqn: core.JaxprEqn, operands: list[Tensor]) -> list[Tensor]:
    rule = RULES.get(eqn.primitive.name)
    try:
        if rule is None:
            raise Refused(f"the primitive {eqn.primitive.name} is not read")
        outs = rule(eqn, *operands)
    except Refused as error:
        if getattr(error, "placed", False):
            raise
        line = where_written(eqn)
        if not line:
            raise  # the equation that contains this one has a line
        placed = type(error)(f"{line}: {eqn.primitive.name}: {error}")
        placed.placed = True  # type: ignore[attr-defined]
        raise placed from error
    except RecursionError as error:
        raise Refused(f"{eqn.primitive.name}: terms nested beyond all bounds") from error
    outs = list(outs) if isinstance(outs, list | tuple) else [outs]
    return [named(eqn.primitive.name, t) for t in outs]


def constant(x: Any, aval: Any = None) -> Tensor:
    """Returns a constant as terms: a number, or an array that has equal entries or few entries."""
    if isinstance(x, Tensor):
        return x
    values = np.asarray(x)
    shape = tuple(map(poly, values.shape)) if aval is None else shape_of(aval)
    if values.dtype == float0:  # the tangent of an integer, which is never used
        return Tensor(shape, ZERO, dtype=values.dtype)
    first = values.flat[0] if values.size else None
    if first is None:
        raise Refused(f"an array of constants of shape {values.shape}")
    if not all(v == first or (v != v and first != first) for v in values.flat):
        return _few_constants(values, shape)
    dtype = values.dtype
    if np.issubdtype(dtype, np.complexfloating):
        raise Refused("complex numbers")
    value = float(first) if not np.issubdtype(dtype, np.integer) else int(first)
    if value != value or value == math.inf:
        return Tensor(shape, ZERO, bad=ONE, dtype=dtype, infinite=value == math.inf)
    if value == -math.inf:
        return Tensor(shape, ZERO, lowest=ONE, dtype=dtype)
    if value in _ROOTS or -value in _ROOTS:
        assume("constants such as 1.4142135 are the roots and parts of pi that round to them")
        return Tensor(shape, _ROOTS[abs(value)] * (1 if value > 0 else -1), dtype=dtype)
    return Tensor(shape, poly(_number(value, first)), dtype=dtype)


def _roots() -> dict[float, Poly]:
    """Returns the numbers ``sqrt(2^j pi^k)`` for small j and k, by the floats nearest to them."""
    found = {}
    for j, k in itertools.product(range(-4, 5), range(-2, 3)):
        if k or j % 2:
            root = power_of(poly(2), Fraction(j, 2)) * product([(PI, Fraction(k, 2))])
            number = math.sqrt(2.0**j * math.pi**k)
            found[float(np.float32(number))] = found[number] = root
    return found


_ROOTS = _roots()


def _number(value: float | int, rounded: Any) -> Number:
    """Returns the shortest decimal that rounds to a float, since code has decimals such as 1e-6.

    Whole numbers and powers of 2 are returned exactly, because the limits and steps of a dtype are
    such numbers. Different numbers of a dtype stay different, and keep their order.
    """
    exact = Fraction(value)
    if exact.denominator == 1:
        return int(exact)
    written = exact if abs(exact.numerator) == 1 else Fraction(str(rounded))
    if written != exact:
        assume("constants such as 1e-6 are the decimals that were written")
    return written


def _few_constants(values: np.ndarray, shape: tuple[Poly, ...]) -> Tensor:
    """Returns an array as its last number plus, at each place, the difference from it."""
    if values.size > _MOST_CONSTANTS:
        raise Refused(f"an array of constants of shape {values.shape}")
    numbers = [constant(v) for v in values.flat]
    if not all(t.finite for t in numbers):
        raise Refused("an array of constants of which some are not finite")
    value = last = numbers[-1].value
    for place, t in zip(np.ndindex(values.shape), numbers, strict=True):
        here = same_place(axes(shape), place)
        value = value + here * (t.value - last)
    return Tensor(shape, value, dtype=values.dtype)


_MOST_CONSTANTS = 64

_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}


@reads(*_INLINED)
def _inlined(eqn: core.JaxprEqn, *operands: Tensor) -> list[Tensor]:
    if is_origin(eqn):
        (x,) = operands
        return [result(eqn, any_number(x.value), bad=either(x.bad, x.lowest))]
    inner = eqn.params[_INLINED[eqn.primitive.name]]
    if isinstance(inner, core.ClosedJaxpr):
        return read(inner, operands)
    return _read(inner, (), operands)


@reads("platform_index")
def _platform_index(eqn: core.JaxprEqn) -> Tensor:
    return Tensor((), poly(atom("platform")), dtype=np.dtype(np.int32))


@reads("cond")
def _cond(eqn: core.JaxprEqn, which: Tensor, *operands: Tensor) -> list[Tensor]:
    branches = [read(b, operands) for b in eqn.params["branches"]]
    if any(a.kind == "platform" for a in which.value.atoms()):
        for other in branches[1:]:
            if not all(map(same, branches[0], other)):
                raise Refused("branches for different platforms that are not the same function")
        return branches[0]
    if len(branches) != 2 or which.value * which.value != which.value:
        raise Refused("a branch on a number")
    select = RULES["select_n"]
    return [select(eqn, which, no, yes) for no, yes in zip(*branches, strict=True)]


def same(a: Tensor, b: Tensor) -> bool:
    """Returns whether two arrays are shown to be equal everywhere, and have the same flags."""
    return (
        a.shape == b.shape
        and vanishes(a.value - b.value)
        and a.lowest == b.lowest
        and a.bad == b.bad
    )
