"""Jaxprs of concrete shapes, run on exact numbers: the second engine's reading of JAX.

Every primitive has its rule here; one without a rule is refused by name. Movement of data
(gather, slices, transposes) is done by JAX itself on arrays of positions.
"""

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from ._exact import Refused, Undecided
from ._extended import Arithmetic, Special
from ._jax_internals import scan_counts
from ._piecewise import Node

_DENOMINATORS = 64  # a literal is read as the fraction that it rounds
_UNKNOWN_PLATFORM = object()
_CALLS = {
    "jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call",
    "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin"
}  # fmt: skip
_MOVES = {
    "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "slice", "rev",
    "concatenate", "dynamic_slice", "dynamic_update_slice", "gather", "copy", "copy_p", "split",
}  # fmt: skip
_SAME = {"stop_gradient", "copy", "copy_p", "optimization_barrier"}


class Reader:
    """Runs jaxprs on object arrays whose entries are leaves or diagrams."""

    def __init__(self, arithmetic: Arithmetic):
        self.arithmetic = arithmetic
        self.pieces, self.field = arithmetic.pieces, arithmetic.field
        self.remarks: set[str] = set()
        self._elementwise = _elementwise(arithmetic)
        self._reductions = {
            "reduce_sum": arithmetic.add, "psum": arithmetic.add,
            "reduce_max": arithmetic.maximum, "pmax": arithmetic.maximum,
            "reduce_and": lambda x, y: x and y,
            "reduce_or": lambda x, y: x or y,
        }  # fmt: skip

    def run(self, jaxpr: core.ClosedJaxpr, *arrays: np.ndarray) -> list[np.ndarray]:
        """The outputs of a jaxpr."""
        consts = [self.constant(c) for c in jaxpr.consts]
        return self._run(jaxpr.jaxpr, [*consts, *arrays])

    def _run(self, jaxpr: core.Jaxpr, arrays: list[np.ndarray]) -> list[np.ndarray]:
        inputs = [*jaxpr.constvars, *jaxpr.invars]
        if len(inputs) != len(arrays):
            raise Refused("a call whose arguments are not those of its jaxpr")
        values: dict[Any, np.ndarray] = dict(zip(inputs, arrays, strict=True))

        def read(atom: Any) -> np.ndarray:
            return self.constant(atom.val) if isinstance(atom, core.Literal) else values[atom]

        variable: Any
        for equation in jaxpr.eqns:
            outputs = self._equation(equation, [read(a) for a in equation.invars])
            for variable, out in zip(equation.outvars, outputs, strict=True):
                if out is not _UNKNOWN_PLATFORM and out.shape != variable.aval.shape:
                    raise Refused(f"{equation.primitive.name} of an unexpected shape")
                values[variable] = out
        return [read(a) for a in jaxpr.outvars]

    # ------------------------------------------------------------------ constants

    def constant(self, value: Any) -> np.ndarray:
        """A literal or a captured array."""
        value = np.asarray(value)
        read: Callable[[Any], Any]
        if value.dtype == jax.dtypes.float0:  # the tangent of an integer
            return filled(value.shape, [False] * value.size)
        if jax.dtypes.issubdtype(value.dtype, np.floating):
            read = functools.partial(self._float, jnp.finfo(value.dtype), value.dtype)
        elif value.dtype == np.bool_:
            read = bool
        elif jax.dtypes.issubdtype(value.dtype, np.integer):
            read = int
        else:
            raise Refused(f"a constant of dtype {value.dtype}")
        return filled(value.shape, [read(v) for v in value.ravel()])

    def _float(self, info, dtype, value) -> Any:
        x = float(value)
        if math.isnan(x):
            return Special.NAN
        if math.isinf(x):
            return Special.ABOVE if x > 0 else Special.BELOW
        if 0 < abs(x) <= float(info.tiny):
            self.remarks.add("the smallest normal float is read as 0")
            return self.field.zero
        simple = Fraction(x).limit_denominator(_DENOMINATORS)
        if simple != Fraction(x):
            if float(np.asarray(float(simple), dtype)) == x:
                self.remarks.add(f"the literal {x:.6g} is read as {simple}")
                return self.field.constant(simple)
        return self.field.constant(Fraction(x))

    # ------------------------------------------------------------------ equations

    def _equation(self, equation, inputs: list[np.ndarray]) -> list[np.ndarray]:
        name, params = equation.primitive.name, equation.params
        if any(x is _UNKNOWN_PLATFORM for x in inputs) and name != "cond":
            if name == "clamp":  # jax 0.6: to the branches that there are
                return [inputs[1]]
            raise Refused(f"{name} of the platform's index")
        if name in _CALLS:
            return self._call(name, params, inputs)
        if name == "platform_index":
            return [_UNKNOWN_PLATFORM]  # type: ignore[list-item]
        if name == "cond":
            return self._cond(params, inputs)
        if name == "scan":
            return self._scan(params, inputs)
        if name == "dot_general":
            return [self._product(params, *inputs)]
        if name in _SAME:
            return list(inputs)
        if name in _MOVES:
            return self._move(equation, inputs)
        if name in self._reductions:
            return [self._reduce(name, x, params) for x in inputs]
        return [self._single(equation, name, inputs)]

    def _single(self, equation, name: str, inputs: list[np.ndarray]) -> np.ndarray:
        params = equation.params
        if name in self._elementwise:
            return self._map(self._elementwise[name], *inputs)
        if name == "select_n":
            if len(inputs) != 3 or not _boolean(equation.invars[0].aval):
                raise Refused("select_n of other than two cases")
            return self._map(lambda b, x, y: y if b else x, *inputs)
        if name == "integer_pow":
            return self._map(lambda x: self.arithmetic.power(x, params["y"]), *inputs)
        if name == "convert_element_type":
            return self._convert(equation, inputs[0])
        if name == "iota":
            return self.constant(np.asarray(equation.primitive.bind(**params)))
        if name == "round":
            if params["rounding_method"] != lax.RoundingMethod.TO_NEAREST_EVEN:
                raise Refused("round other than to even")
            return self._map(self.arithmetic.round, *inputs)
        if name == "reduce_precision":
            return self._fewer_bits(equation, inputs[0])
        if name == "scatter-add" or name == "scatter_add":
            return self._scatter_add(equation, inputs)
        raise Refused(f"the primitive {name}")

    def _map(self, operation: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
        arrays = tuple(np.broadcast_arrays(*arrays))
        entries = zip(*(a.ravel() for a in arrays), strict=True)
        return filled(arrays[0].shape, [self.pieces.apply(operation, *e) for e in entries])

    def _convert(self, equation, x: np.ndarray) -> np.ndarray:
        old, new = equation.invars[0].aval.dtype, np.dtype(equation.params["new_dtype"])
        floating, integral = np.floating, np.integer
        if jax.dtypes.issubdtype(new, floating):
            return (
                x if jax.dtypes.issubdtype(old, floating) else self._map(self.arithmetic.number, x)
            )
        if jax.dtypes.issubdtype(old, floating) and new != np.bool_:
            raise Refused("convert_element_type from floats to integers")
        if new == np.bool_:
            differs = self.arithmetic.comparison(lambda s: s != 0, unordered=True)
            return self._map(lambda v: v if isinstance(v, bool) else differs(v, self._like(v)), x)
        return self._map(int, x) if jax.dtypes.issubdtype(new, integral) else x

    def _fewer_bits(self, equation, x: np.ndarray) -> np.ndarray:
        info = jnp.finfo(equation.invars[0].aval.dtype)
        exponent, bits = equation.params["exponent_bits"], equation.params["mantissa_bits"]
        if exponent < info.nexp:
            raise Refused("reduce_precision to an exponent of fewer bits")
        if bits >= info.nmant:
            return x
        return filled(x.shape, [self.arithmetic.fewer_bits(v, bits) for v in x.ravel()])

    def _like(self, x: Any) -> Any:
        return 0 if isinstance(x, int) else self.field.zero

    def _reduce(self, name: str, x: np.ndarray, params) -> np.ndarray:
        axes = tuple(params["axes"])
        if any(isinstance(a, str) for a in axes) or params.get("axis_index_groups") is not None:
            raise Refused(f"{name} over shards that are not an axis of the arrays")
        kept = [i for i in range(x.ndim) if i not in axes]
        shape = tuple(x.shape[i] for i in kept)
        rows = x.transpose((*kept, *axes)).reshape((math.prod(shape), -1))
        if rows.shape[1] == 0:
            raise Refused(f"{name} of nothing")
        fold = functools.partial(self.pieces.apply, self._reductions[name])
        return filled(shape, [functools.reduce(fold, row) for row in rows])

    # ------------------------------------------------------------------ movement of data

    def _move(self, equation, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """By running the primitive on positions, 0 being what is out of bounds."""
        name, params = equation.primitive.name, dict(equation.params)
        many = {"concatenate": len(inputs), "dynamic_update_slice": 2}
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

    def _scatter_add(self, equation, inputs: list[np.ndarray]) -> np.ndarray:
        """By scattering each update alone, as a one."""
        operand, indices, updates = inputs
        where, out = _integers(indices, "scatter-add"), operand.copy()
        for u in range(updates.size):
            alone = np.zeros(updates.size, np.float32)
            alone[u] = 1
            ones = alone.reshape(updates.shape)
            empty = jnp.zeros(operand.shape, jnp.float32)
            hit = equation.primitive.bind(empty, jnp.asarray(where), ones, **equation.params)
            for place in np.argwhere(np.asarray(hit)):
                at = tuple(place)
                out[at] = self.pieces.apply(self.arithmetic.add, out[at], updates.ravel()[u])
        return out

    # ------------------------------------------------------------------ control

    def _call(self, name: str, params, inputs: list[np.ndarray]) -> list[np.ndarray]:
        for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
            inner = params.get(key)
            if isinstance(inner, core.ClosedJaxpr):
                return self.run(inner, *inputs)
            if isinstance(inner, core.Jaxpr):
                return self._run(inner, inputs)
        raise Refused(f"{name} without a jaxpr")

    def _cond(self, params, inputs: list[np.ndarray]) -> list[np.ndarray]:
        index, *operands = inputs
        branches = params["branches"]
        if index is _UNKNOWN_PLATFORM:
            self.remarks.add("every platform's branch of lax.platform_dependent gives the same")
            outs = [self.run(branch, *operands) for branch in branches]
            for other in outs[1:]:
                self._same(outs[0], other)
            return outs[0]
        chosen = index.item()
        if isinstance(chosen, Node):
            raise Refused("cond whose index depends on the values")
        return self.run(branches[min(max(int(chosen), 0), len(branches) - 1)], *operands)

    def _scan(self, params, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Unrolled."""
        constants, carries = scan_counts(params)
        fixed, carry = inputs[:constants], inputs[constants : constants + carries]
        rows, steps = inputs[constants + carries :], range(params["length"])
        outs = []
        for i in reversed(steps) if params["reverse"] else steps:
            new = self.run(
                params["jaxpr"], *fixed, *carry, *(np.asarray(r[i], object) for r in rows)
            )
            carry, stacked = new[:carries], new[carries:]
            outs.append(stacked)
        if params["reverse"]:
            outs.reverse()
        return [*carry, *(np.stack(out) for out in zip(*outs, strict=True))]

    def _product(self, params, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Entry by entry, as sums of products; batches first."""
        (over_x, over_y), (batch_x, batch_y) = params["dimension_numbers"]
        left, rows = self._matrices(x, over_x, batch_x)
        right, columns = self._matrices(y, over_y, batch_y)
        batch = tuple(x.shape[i] for i in batch_x)
        pairs = zip(left, right, strict=True)
        entries = [self._inner(a, b) for some, others in pairs for a in some for b in others]
        return filled(batch + rows + columns, entries)

    def _matrices(self, x: np.ndarray, over, batch) -> tuple[np.ndarray, tuple[int, ...]]:
        """``[batch, rows, columns]``, the columns being summed over, and the shape of the rows."""
        kept = [i for i in range(x.ndim) if i not in (*over, *batch)]
        rows = tuple(x.shape[i] for i in kept)
        shape = (math.prod(x.shape[i] for i in batch), math.prod(rows), -1)
        return x.transpose((*batch, *kept, *over)).reshape(shape), rows

    def _inner(self, a: np.ndarray, b: np.ndarray) -> Any:
        terms = [
            self.pieces.apply(self.arithmetic.multiply, x, y) for x, y in zip(a, b, strict=True)
        ]
        return functools.reduce(lambda x, y: self.pieces.apply(self.arithmetic.add, x, y), terms)

    def _same(self, ones: list[np.ndarray], others: list[np.ndarray]) -> None:
        for one, other in zip(ones, others, strict=True):
            for x, y in zip(one.ravel(), other.ravel(), strict=True):
                if x != y and not self.always_zero(
                    self.pieces.apply(self.arithmetic.subtract, x, y)
                ):
                    raise Undecided("the branches of lax.platform_dependent differ")

    def always_zero(self, x: Any) -> bool:
        """Whether a diagram is zero on every path."""
        return all(
            not isinstance(leaf, Special)
            and (leaf == 0 if isinstance(leaf, int) else self.pieces.zero_on(leaf, path))
            for path, leaf in self.pieces.paths(x)
        )


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


def _elementwise(a: Arithmetic) -> dict[str, Callable[..., Any]]:
    """The rules that go entry by entry."""
    return {
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
    """An array of objects; NumPy would look into them."""
    out = np.empty(math.prod(shape), object)
    for i, entry in enumerate(entries):
        out[i] = entry
    return out.reshape(shape)


def _boolean(aval: Any) -> bool:
    return aval.dtype == np.bool_


def _integers(x: np.ndarray, name: str) -> np.ndarray:
    if any(not isinstance(v, int) for v in x.ravel()):
        raise Refused(f"{name} at indices that depend on the values")
    return np.asarray(x, dtype=object).astype(np.int32)
