"""Movement of data in the second engine: done by JAX itself, on arrays of positions."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from .entries import Entries, filled
from .extended import Special
from .polynomials import Refused


class Moves(Entries):
    """Gathers, slices, transposes and scatters of arrays of entries."""

    def move(self, equation, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """By running the primitive on positions, 0 being what is out of bounds."""
        name, params = equation.primitive.name, dict(equation.params)
        every = dict.fromkeys(("concatenate", "stack"), len(inputs))
        many = {**every, "dynamic_update_slice": 2, "pad": 2}
        data = inputs[: many.get(name, 1)]
        entries = np.concatenate([x.ravel() for x in data])
        if name == "gather":
            if params["fill_value"] is not None and not np.isnan(params["fill_value"]):
                raise Refused("gather with a fill value")
            params["fill_value"] = 0  # of a position: NaN, JAX's default for floats
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
        taken = [entries[p - 1] if p else Special.NAN for p in positions.ravel()]
        return filled(positions.shape, taken)

    def scatter_add(self, equation, inputs: list[np.ndarray]) -> np.ndarray:
        """By scattering each update alone, as a one."""
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
    """Where the entries of arrays of these shapes go, counted from 1."""
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
