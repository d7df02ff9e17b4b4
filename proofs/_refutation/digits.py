"""Runs functions on real numbers of 100 digits, and takes their derivatives by differences.

The steps are so short, and the digits so many, that the error of a difference is about 1e-30 times
the function's curvature. Casts between floating-point dtypes do not change numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import mpmath
import numpy as np
from jax.extend import core

from .._jax_internals import without_dead_code
from .entries import Refused, Undecided, filled
from .reading import Reader
from .reals import Reals, of_real

DIGITS = 100
STEPS = (mpmath.mpf("1e-30"), mpmath.mpf("1e-33"))
SMOOTH = 1e-9  # how closely differences agree where a derivative exists
_LONGEST_LOOP = 1000

Vector = list[Any]
Function = Callable[..., Any]


class Unread(Exception):
    """Raised where a function cannot be run on these numbers, as for a primitive without a rule."""


class NotTaken(Exception):
    """Raised where a function refuses the shapes it is tried at, which shows nothing."""


def traced(fun: Function, shapes: Sequence[Any]) -> core.ClosedJaxpr:
    """Returns the jaxpr of a user's function, or raises ``NotTaken``."""
    try:
        return jax.make_jaxpr(fun)(*shapes)
    except Exception as error:  # a user's function may raise anything
        raise NotTaken(str(error)) from error


class Digits:
    """A function to run on object arrays of numbers; it is traced once for each set of shapes."""

    def __init__(self, fun: Function):
        self.fun = fun
        self.traced: dict[tuple, core.ClosedJaxpr] = {}

    def jaxpr(self, arrays: Sequence[np.ndarray]) -> core.ClosedJaxpr:
        """Returns the jaxpr that is run at arrays of these shapes and dtypes."""
        shapes = [jax.ShapeDtypeStruct(a.shape, _dtype(a)) for a in arrays]
        key = tuple((s.shape, s.dtype) for s in shapes)
        if key not in self.traced:
            self.traced[key] = without_dead_code(traced(self.fun, shapes))
        return self.traced[key]

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Returns the outputs at arrays of mpmath's numbers, integers or booleans."""
        jaxpr = self.jaxpr(arrays)
        try:
            outs = _Reader(Reals()).run(jaxpr, *arrays)
        except (Refused, Undecided, NotImplementedError, OverflowError, MemoryError) as error:
            raise Unread(str(error)) from error
        return [filled(o.shape, list(map(mpmath.mpf, o.flat))) for o in outs]


def exact(array: np.ndarray) -> np.ndarray:
    """Returns the array with floats as mpmath's numbers, and others as Python's int or bool."""
    kinds: dict[str, Callable[[Any], Any]] = {"b": bool, "i": int, "u": int}
    read = kinds.get(array.dtype.kind, lambda x: mpmath.mpf(float(x)))
    return filled(array.shape, list(map(read, array.flat)))


def _dtype(array: np.ndarray) -> np.dtype:
    if array.dtype != object:
        return array.dtype
    kind = type(array.flat[0]) if array.size else mpmath.mpf
    return np.dtype({bool: np.bool_, int: np.int32}.get(kind, np.float64))


def flat(arrays: Sequence[np.ndarray]) -> Vector:
    """Returns the entries of all arrays in one list."""
    return [x for a in arrays for x in a.flat]


def moved(
    arrays: Sequence[np.ndarray], places: Sequence[int], step: Any, direction: Sequence[Any]
) -> list[np.ndarray]:
    """Returns the arrays, of which those at ``places`` are moved by a step along a direction."""
    new, rest = list(arrays), iter(direction)
    for p in places:
        a = arrays[p]
        new[p] = filled(a.shape, [x + step * d if (d := next(rest)) else x for x in a.flat])
    return new


def derivative(
    fun: Digits, arrays: Sequence[np.ndarray], places: Sequence[int], direction: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the derivative of each output along a direction, and its error.

    The derivative is NaN unless the differences to both sides, at both steps, agree.
    """
    here = flat(fun(*arrays))
    sides = [
        [(y - x) / h for x, y in zip(here, there, strict=True)]
        for step in STEPS
        for h in (step, -step)
        for there in [flat(fun(*moved(arrays, places, h, direction)))]
    ]
    means = []
    for quotients in zip(*sides, strict=True):
        mean = (quotients[0] + quotients[1]) / 2
        exists = all(abs(q - mean) <= SMOOTH * (1 + abs(mean)) for q in quotients)
        means.append(float(mean) if exists else math.nan)
    values = np.array(means)
    return values, SMOOTH * (1 + np.abs(values))


# ---------------------------------------------------------------- primitives


class _Reader(Reader):
    """Runs jaxprs on these numbers, with rules for more primitives than ``Reader`` has."""

    def __init__(self, numbers: Any):
        super().__init__(numbers)
        self.elementwise |= _ELEMENTWISE
        self.reductions |= {
            "reduce_min": self.elementwise["min"],
            "reduce_prod": numbers.multiply,
        }
        self.running = {
            "cumsum": numbers.add, "cumprod": numbers.multiply, "cummax": numbers.maximum,
            "cummin": self.elementwise["min"],
        }  # fmt: skip

    def _equation(self, equation, inputs):
        name, params = equation.primitive.name, equation.params
        if name == "sort":
            return _sorted(params, inputs)
        if name == "while":
            return self._while(params, inputs)
        return super()._equation(equation, inputs)

    def _single(self, equation, name, inputs):
        params = equation.params
        if name in self.running:
            return self._running(self.running[name], params, *inputs)
        if name in ("argmax", "argmin"):
            (axis,) = params["axes"]
            best = max if name == "argmax" else min
            rows = np.apply_along_axis(
                lambda r: best(range(len(r)), key=lambda i: r[i]), axis, *inputs
            )
            return rows.astype(object)
        if name == "select_n" and len(inputs) != 3:
            return self.map(lambda i, *cases: cases[i], *inputs)
        return super()._single(equation, name, inputs)

    def _running(self, operation, params, x):
        step = -1 if params["reverse"] else 1
        x = np.moveaxis(x, params["axis"], 0)[::step]
        rows = list(x[:1])
        for row in x[1:]:
            rows.append(self.map(operation, np.asarray(rows[-1]), np.asarray(row)))
        return np.moveaxis(np.stack(rows)[::step], 0, params["axis"])

    def _while(self, params, inputs):
        of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
        carry = inputs[of_cond + of_body :]
        fixed = inputs[of_cond : of_cond + of_body]
        for _ in range(_LONGEST_LOOP):
            (again,) = self.run(params["cond_jaxpr"], *inputs[:of_cond], *carry)
            if not again.item():
                return carry
            carry = self.run(params["body_jaxpr"], *fixed, *carry)
        raise Refused("a loop of more than 1000 steps")


def _sorted(params, inputs):
    axis, keys = params["dimension"], params["num_keys"]
    rows = [np.moveaxis(x, axis, -1) for x in inputs]
    outs = [np.empty_like(r) for r in rows]
    for place in np.ndindex(rows[0].shape[:-1]):
        lines = [r[place] for r in rows]
        if any(mpmath.isnan(x) for line in lines[:keys] for x in line):
            raise Refused("sort of NaN")
        order = sorted(range(len(lines[0])), key=lambda i: [line[i] for line in lines[:keys]])
        for out, line in zip(outs, lines, strict=True):
            out[place] = line[order]
    return [np.moveaxis(o, -1, axis) for o in outs]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(mpmath, name)
    for name in ("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh",
                 "acosh", "atanh", "erf", "erfc", "digamma", "sqrt", "ceil")
}  # fmt: skip
_FUNCTIONS |= {
    "rsqrt": lambda x: 1 / mpmath.sqrt(x) if x else mpmath.inf,
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "erf_inv": mpmath.erfinv,
    "lgamma": lambda x: mpmath.log(abs(mpmath.gamma(x))),
}


def _remainder(x: Any, y: Any) -> Any:
    if isinstance(x, int) and isinstance(y, int):
        return abs(x) % abs(y) * (1 if x >= 0 else -1) if y else 0
    return of_real(lambda a, b: a - b * (mpmath.floor(a / b) if a / b > 0 else mpmath.ceil(a / b)))(
        x, y
    )


_ELEMENTWISE = {name: of_real(function) for name, function in _FUNCTIONS.items()} | {
    "rem": _remainder,
    "xor": lambda x, y: x != y,
}
