"""Computes with arrays of numbers, entry by entry.

An entry is a boolean, an integer, or a number of an ``arithmetic`` such as ``reals.Reals``. The
tests have an arithmetic of exact numbers, in which a value may depend on cases. There,
``pieces.apply`` carries out an operation in each case.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class Refused(Exception):
    """Raised for a primitive, or a use of one, that has no rule."""


class Undecided(Exception):
    """Raised where a question cannot be decided or a value cannot be represented."""


class Entries:
    """The operations on object arrays, whose entries are numbers of an arithmetic."""

    def __init__(self, arithmetic: Any):
        self.arithmetic = arithmetic
        self.pieces, self.field = arithmetic.pieces, arithmetic.field
        self.elementwise = _elementwise(arithmetic)
        self.reductions = {
            "reduce_sum": arithmetic.add, "psum": arithmetic.add,
            "reduce_max": arithmetic.maximum, "pmax": arithmetic.maximum,
            "reduce_and": lambda x, y: x and y,
            "reduce_or": lambda x, y: x or y,
        }  # fmt: skip

    def constant(self, value: Any) -> np.ndarray:
        """Returns a literal or a captured array as an array of entries."""
        value = np.asarray(value)
        read: Callable[[Any], Any]
        if value.dtype == jax.dtypes.float0:  # the dtype of an integer's tangent
            return filled(value.shape, [False] * value.size)
        if jax.dtypes.issubdtype(value.dtype, np.floating):
            read = functools.partial(self.arithmetic.literal, dtype=value.dtype)
        elif value.dtype == np.bool_:
            read = bool
        elif jax.dtypes.issubdtype(value.dtype, np.integer):
            read = int
        else:
            raise Refused(f"a constant of dtype {value.dtype}")
        return filled(value.shape, [read(v) for v in value.ravel()])

    def map(self, operation: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
        arrays = tuple(np.broadcast_arrays(*arrays))
        entries = zip(*(a.ravel() for a in arrays), strict=True)
        return filled(arrays[0].shape, [self.pieces.apply(operation, *e) for e in entries])

    def convert(self, equation, x: np.ndarray) -> np.ndarray:
        old, new = equation.invars[0].aval.dtype, np.dtype(equation.params["new_dtype"])
        floating, integral = np.floating, np.integer
        if jax.dtypes.issubdtype(new, floating):
            return (
                x if jax.dtypes.issubdtype(old, floating) else self.map(self.arithmetic.number, x)
            )
        if jax.dtypes.issubdtype(old, floating) and new != np.bool_:
            raise Refused("convert_element_type from floats to integers")
        if new == np.bool_:
            differs = self.arithmetic.comparison(lambda s: s != 0, unordered=True)
            return self.map(lambda v: v if isinstance(v, bool) else differs(v, self._like(v)), x)
        return self.map(int, x) if jax.dtypes.issubdtype(new, integral) else x

    def fewer_bits(self, equation, x: np.ndarray) -> np.ndarray:
        """Rounds to fewer bits than float32 has; returns ``x`` itself if all of them are kept."""
        exponent, bits = equation.params["exponent_bits"], equation.params["mantissa_bits"]
        if exponent < 8:
            raise Refused("reduce_precision to an exponent of fewer bits")
        return x if bits >= 23 else self.map(lambda v: self.arithmetic.fewer_bits(v, bits), x)

    def _like(self, x: Any) -> Any:
        return 0 if isinstance(x, int) else self.field.zero

    def reduce(self, name: str, x: np.ndarray, params) -> np.ndarray:
        axes = tuple(params["axes"])
        if any(isinstance(a, str) for a in axes) or params.get("axis_index_groups") is not None:
            raise Refused(f"{name} over shards that are not an axis of the arrays")
        kept = [i for i in range(x.ndim) if i not in axes]
        shape = tuple(x.shape[i] for i in kept)
        rows = x.transpose((*kept, *axes)).reshape((math.prod(shape), -1))
        if rows.shape[1] == 0:
            raise Refused(f"{name} of nothing")
        fold = functools.partial(self.pieces.apply, self.reductions[name])
        return filled(shape, [functools.reduce(fold, row) for row in rows])

    def product(self, params, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Returns the ``dot_general`` of two arrays as sums of products; batch axes come first."""
        (over_x, over_y), (batch_x, batch_y) = params["dimension_numbers"]
        left, rows = self._matrices(x, over_x, batch_x)
        right, columns = self._matrices(y, over_y, batch_y)
        batch = tuple(x.shape[i] for i in batch_x)
        pairs = zip(left, right, strict=True)
        entries = [self._inner(a, b) for some, others in pairs for a in some for b in others]
        return filled(batch + rows + columns, entries)

    def _matrices(self, x: np.ndarray, over, batch) -> tuple[np.ndarray, tuple[int, ...]]:
        """Returns ``x`` as ``[batch, rows, columns]``, to sum over columns, and the rows' shape."""
        kept = [i for i in range(x.ndim) if i not in (*over, *batch)]
        rows = tuple(x.shape[i] for i in kept)
        shape = (math.prod(x.shape[i] for i in batch), math.prod(rows), -1)
        return x.transpose((*batch, *kept, *over)).reshape(shape), rows

    def _inner(self, a: np.ndarray, b: np.ndarray) -> Any:
        terms = [
            self.pieces.apply(self.arithmetic.multiply, x, y) for x, y in zip(a, b, strict=True)
        ]
        return functools.reduce(lambda x, y: self.pieces.apply(self.arithmetic.add, x, y), terms)


def _elementwise(a: Any) -> dict[str, Callable[..., Any]]:
    """Returns the rules of elementwise primitives, by their names."""

    def least(x: Any, y: Any) -> Any:
        return a.negative(a.maximum(a.negative(x), a.negative(y)))

    return {
        "min": least, "clamp": lambda low, x, high: least(a.maximum(x, low), high),
        "add": a.add, "add_any": a.add, "sub": a.subtract, "mul": a.multiply,
        "div": a.divide, "neg": a.negative, "max": a.maximum,
        "exp": a.exp, "log": a.log, "log1p": a.log1p, "expm1": a.expm1, "tanh": a.tanh,
        "pow": a.general_power, "square": lambda x: a.power(x, 2),
        "one_minus_square": lambda x: a.subtract(a.field.one, a.power(x, 2)),
        "abs": a.absolute, "sign": a.sign, "floor": a.floor,
        "is_finite": a.finite,
        "eq": a.comparison(lambda s: s == 0), "ne": a.comparison(lambda s: s != 0, True),
        "lt": a.comparison(lambda s: s < 0), "le": a.comparison(lambda s: s <= 0),
        "gt": a.comparison(lambda s: s > 0), "ge": a.comparison(lambda s: s >= 0),
        "and": _logical(lambda x, y: x and y), "or": _logical(lambda x, y: x or y),
        "not": _logical(lambda x: not x),
    }  # fmt: skip


def _logical(operation: Callable[..., bool]) -> Callable[..., bool]:
    def checked(*values):
        if not all(isinstance(v, bool) for v in values):
            raise Refused("bits of integers")
        return operation(*values)

    return checked


def filled(shape: tuple[int, ...], entries: list[Any]) -> np.ndarray:
    """Returns an object array of the entries; ``np.array`` might look into them."""
    out = np.empty(math.prod(shape), object)
    for i, entry in enumerate(entries):
        out[i] = entry
    return out.reshape(shape)
