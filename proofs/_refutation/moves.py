"""Moves entries: by NumPy where it has the same function, else by JAX, on their positions."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .entries import Entries, Refused, filled


class Moves(Entries):
    """Gathers, slices, transposes and scatters of arrays of entries."""

    def move(self, equation, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Moves entries by NumPy, or as the primitive moves their positions; 0 is out of bounds."""
        name, params = equation.primitive.name, dict(equation.params)
        if name in _BY_NUMPY:  # JAX would compile each primitive anew for each shape
            return [_BY_NUMPY[name](params, *inputs)]
        many = {"stack": len(inputs), "dynamic_update_slice": 2, "pad": 2}
        data = inputs[: many.get(name, 1)]
        entries = np.concatenate([x.ravel() for x in data])
        if name == "gather":
            if params["fill_value"] is not None and not np.isnan(params["fill_value"]):
                raise Refused("gather with a fill value")
            params["fill_value"] = 0  # position 0 becomes NaN, JAX's default for floats
        shapes = tuple(x.shape for x in data)
        indices = tuple(
            (x.shape, tuple(_integers(x, name).ravel().tolist())) for x in inputs[len(data) :]
        )
        outs = _positions(equation.primitive, tuple(params.items()), shapes, indices)
        return [self._taken(entries, out, equation) for out in outs]

    def _taken(self, entries: np.ndarray, positions: np.ndarray, equation) -> np.ndarray:
        floating = jax.dtypes.issubdtype(equation.outvars[0].aval.dtype, np.floating)
        if (positions == 0).any() and not floating:
            raise Refused(f"{equation.primitive.name} of integers out of bounds")
        nan = self.arithmetic.literal(np.nan)
        taken = [entries[p - 1] if p else nan for p in positions.ravel()]
        return filled(positions.shape, taken)

    def scatter_add(self, equation, inputs: list[np.ndarray]) -> np.ndarray:
        """Finds where each update goes by scattering a 1 in its place, and adds it there."""
        operand, indices, updates = inputs
        where, out = _integers(indices, "scatter-add"), operand.copy()
        dtype = equation.invars[0].aval.dtype
        for u in range(updates.size):
            alone = np.zeros(updates.size, dtype)
            alone[u] = 1
            ones = alone.reshape(updates.shape)
            empty = jnp.zeros(operand.shape, dtype)
            hit = equation.primitive.bind(
                empty, jnp.asarray(where), jnp.asarray(ones), **equation.params
            )
            for place in np.argwhere(np.asarray(hit)):
                at = tuple(place)
                out[at] = self.pieces.apply(self.arithmetic.add, out[at], updates.ravel()[u])
        return out


@functools.lru_cache(maxsize=4096)
def _positions(primitive, params, shapes, indices) -> list[np.ndarray]:
    """Returns arrays that say which entry a primitive moves to each place, counted from 1."""
    sizes = [math.prod(shape) for shape in shapes]
    starts = np.cumsum([1, *sizes[:-1]])
    positions = [
        np.arange(start, start + size, dtype=np.int32).reshape(shape)
        for start, size, shape in zip(starts, sizes, shapes, strict=True)
    ]
    positions += [np.array(i, np.int32).reshape(shape) for shape, i in indices]
    outs = primitive.bind(*map(jnp.asarray, positions), **dict(params))
    return [np.asarray(out) for out in (outs if primitive.multiple_results else [outs])]


def _integers(x: np.ndarray, name: str) -> np.ndarray:
    if any(not isinstance(v, int) for v in x.ravel()):
        raise Refused(f"{name} at indices that depend on the values")
    return np.asarray(x, dtype=object).astype(np.int32)


def _broadcast(params: Any, x: np.ndarray, *_: Any) -> np.ndarray:
    shape, kept = params["shape"], params["broadcast_dimensions"]
    ones = [x.shape[kept.index(i)] if i in kept else 1 for i in range(len(shape))]
    return np.broadcast_to(x.reshape(ones), shape)


def _sliced(params: Any, x: np.ndarray) -> np.ndarray:
    strides = params["strides"] or (1,) * x.ndim
    ends = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*e) for e in ends)]


_BY_NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "broadcast_in_dim": _broadcast,
    "slice": _sliced,
    "squeeze": lambda params, x: x.squeeze(params["dimensions"]),
    "transpose": lambda params, x: x.transpose(params["permutation"]),
    "rev": lambda params, x: np.flip(x, params["dimensions"]),
    "concatenate": lambda params, *xs: np.concatenate(xs, params["dimension"]),
    "reshape": lambda params, x, *_: x.reshape(params["new_sizes"]),
}
