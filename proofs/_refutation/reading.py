"""Runs jaxprs of concrete shapes on numbers of any arithmetic, entry by entry.

The rules of the primitives are here, in ``entries`` and in ``moves``. A primitive without a rule
raises ``Refused``, with its name.
"""

from typing import Any

import numpy as np
from jax import lax
from jax.extend import core

from .._jax_internals import is_origin, scan_counts
from .entries import Refused, Undecided
from .moves import Moves

_UNKNOWN_PLATFORM = object()
_CALLS = {
    "jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call",
    "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin"
}  # fmt: skip
_MOVES = {
    "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "slice", "rev",
    "concatenate", "dynamic_slice", "dynamic_update_slice", "gather", "copy", "copy_p", "split",
    "stack", "unstack", "pad",
}  # fmt: skip
_SAME = {"stop_gradient", "copy", "copy_p", "optimization_barrier"}


class Reader(Moves):
    """Runs jaxprs on object arrays of numbers."""

    def run(self, jaxpr: core.ClosedJaxpr, *arrays: np.ndarray) -> list[np.ndarray]:
        """Returns the outputs of a jaxpr for some arrays."""
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

    def _equation(self, equation, inputs: list[np.ndarray]) -> list[np.ndarray]:
        name, params = equation.primitive.name, equation.params
        if any(x is _UNKNOWN_PLATFORM for x in inputs) and name != "cond":
            if name == "clamp":  # JAX 0.6 clamps it to the number of branches
                return [inputs[1]]
            raise Refused(f"{name} of the platform's index")
        if is_origin(equation):
            # No loss depends on the number that ``row_origin`` returns, so any number will do. Here
            # it is the floor of the argument, which an exact arithmetic does not know either.
            return [self.map(self.arithmetic.floor, *inputs)]
        if name in _CALLS:
            return self._call(name, params, inputs)
        if name == "platform_index":
            return [_UNKNOWN_PLATFORM]  # type: ignore[list-item]
        if name == "cond":
            return self._cond(params, inputs)
        if name == "scan":
            return self._scan(params, inputs)
        if name == "dot_general":
            return [self.product(params, *inputs)]
        if name in _SAME:
            return list(inputs)
        if name in _MOVES:
            return self.move(equation, inputs)
        if name in self.reductions:
            return [self.reduce(name, x, params) for x in inputs]
        return [self._single(equation, name, inputs)]

    def _single(self, equation, name: str, inputs: list[np.ndarray]) -> np.ndarray:
        params = equation.params
        if name in self.elementwise:
            return self.map(self.elementwise[name], *inputs)
        if name == "select_n":
            if len(inputs) != 3 or equation.invars[0].aval.dtype != np.bool_:
                raise Refused("select_n of other than two cases")
            return self.map(lambda b, x, y: y if b else x, *inputs)
        if name == "integer_pow":
            return self.map(lambda x: self.arithmetic.power(x, params["y"]), *inputs)
        if name == "convert_element_type":
            return self.convert(equation, inputs[0])
        if name == "iota":
            return self.constant(np.asarray(equation.primitive.bind(**params)))
        if name == "round":
            if params["rounding_method"] != lax.RoundingMethod.TO_NEAREST_EVEN:
                raise Refused("round other than to even")
            return self.map(self.arithmetic.round, *inputs)
        if name == "reduce_precision":
            return self.fewer_bits(equation, inputs[0])
        if name == "scatter-add" or name == "scatter_add":
            return self.scatter_add(equation, inputs)
        raise Refused(f"the primitive {name}")

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
            outs = [self.run(branch, *operands) for branch in branches]
            for other in outs[1:]:
                self._same(outs[0], other)
            return outs[0]
        chosen = index.item()
        if not isinstance(chosen, int):
            raise Refused("cond whose index depends on the values")
        return self.run(branches[min(max(int(chosen), 0), len(branches) - 1)], *operands)

    def _scan(self, params, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Returns the carries and the stacked outputs of a scan, which is run step by step."""
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

    def _same(self, ones: list[np.ndarray], others: list[np.ndarray]) -> None:
        """Raises ``Undecided`` if two platforms' outputs differ by more than rounding."""
        for one, other in zip(ones, others, strict=True):
            for x, y in zip(one.flat, other.flat, strict=True):
                if not self.arithmetic.close(x, y):
                    raise Undecided("the branches of lax.platform_dependent differ")
