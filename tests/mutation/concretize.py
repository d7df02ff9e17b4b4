"""Runs jaxprs of symbolic sizes at concrete sizes, in float32 or float64."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.extend import core
from xent_jax.proofs._jax_internals import scan_counts

_JAXPRS = ("jaxpr", "call_jaxpr", "fun_jaxpr")


@dataclass(frozen=True)
class Run:
    """The way a jaxpr runs: at which sizes, whether in float64, and for which platform.

    ``platform`` is the index of the branch of ``lax.platform_dependent`` that is taken. Calls are
    inlined, so that JAX can trace a run again.
    """

    size: Mapping[str, int]
    wide: bool = False
    platform: int = 0

    def outputs(self, jaxpr: core.ClosedJaxpr, arrays: Sequence[Any]) -> list[Any]:
        """Runs a jaxpr on arrays, and returns its outputs."""
        consts = [jnp.asarray(c, self._dtype(np.asarray(c).dtype)) for c in jaxpr.consts]
        return self._of(jaxpr.jaxpr, [*consts, *arrays])

    def _of(self, jaxpr: core.Jaxpr, arrays: Sequence[Any]) -> list[Any]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], arrays, strict=True))

        def read(atom: Any) -> Any:
            literal = isinstance(atom, core.Literal)
            return np.asarray(atom.val, self._dtype(atom.aval.dtype)) if literal else values[atom]

        for equation in jaxpr.eqns:
            outs = self._equation(equation, [read(a) for a in equation.invars])
            values.update(zip(equation.outvars, outs, strict=True))
        return [read(a) for a in jaxpr.outvars]

    def _equation(self, equation: core.JaxprEqn, inputs: list[Any]) -> list[Any]:
        name, params = equation.primitive.name, equation.params
        if name == "platform_index":
            return [np.int32(self.platform)]
        if name == "dim_as_value":
            aval: Any = equation.outvars[0].aval
            return [np.asarray(concrete(params["dim"], self.size), aval.dtype)]
        if name == "cond":
            branches = params["branches"]
            chosen = branches[min(max(int(inputs[0]), 0), len(branches) - 1)]
            return self.outputs(chosen, inputs[1:])
        if name == "scan":
            return self._scan(params, inputs)
        for key in _JAXPRS:
            inner = params.get(key)
            if isinstance(inner, core.ClosedJaxpr):
                return self.outputs(inner, inputs)
            if isinstance(inner, core.Jaxpr):
                return self._of(inner, inputs)
        if name == "scatter-add":
            return [self._scatter_add(params, inputs)]
        out = equation.primitive.bind(*inputs, **{k: self._param(v) for k, v in params.items()})
        return list(out) if equation.primitive.multiple_results else [out]

    def _scan(self, params: Mapping[str, Any], inputs: list[Any]) -> list[Any]:
        """Runs a scan step by step."""
        constants, carries = scan_counts(params)
        fixed, carry = inputs[:constants], inputs[constants : constants + carries]
        rows, steps = inputs[constants + carries :], range(concrete(params["length"], self.size))
        outs = []
        for i in reversed(steps) if params["reverse"] else steps:
            new = self.outputs(params["jaxpr"], [*fixed, *carry, *(r[i] for r in rows)])
            carry, stacked = new[:carries], new[carries:]
            outs.append(stacked)
        if params["reverse"]:
            outs.reverse()
        return [
            *carry,
            *(jnp.concatenate([o[None] for o in out]) for out in zip(*outs, strict=True)),
        ]

    def _scatter_add(self, params: Mapping[str, Any], inputs: list[Any]) -> Any:
        """Calls ``lax.scatter_add`` anew, because the equation has an addition in its own dtype."""
        operand, indices, updates = map(jnp.asarray, inputs)
        return lax.scatter_add(
            operand,
            indices,
            updates,
            params["dimension_numbers"],
            indices_are_sorted=params["indices_are_sorted"],
            unique_indices=params["unique_indices"],
            mode=params["mode"],
        )

    def _param(self, value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(self._param, value))
        if export.is_symbolic_dim(value):
            return concrete(value, self.size)
        return self._dtype(value) if isinstance(value, np.dtype) else value

    def _dtype(self, dtype: np.dtype) -> np.dtype:
        return np.dtype(np.float64) if self.wide and dtype == np.float32 else dtype


def concrete(dim: Any, size: Mapping[str, int]) -> int:
    """Returns a dimension, symbolic or not, as an integer at these sizes."""
    if not export.is_symbolic_dim(dim):
        return int(dim)
    written = str(dim).replace("^", "**")
    return int(eval(written, {"__builtins__": {}, "floordiv": int.__floordiv__}, dict(size)))


def specialized(
    jaxpr: core.ClosedJaxpr, size: Mapping[str, int], platform: int = 0
) -> core.ClosedJaxpr:
    """Returns a jaxpr of symbolic sizes traced at concrete ones, with one platform's branches."""
    shapes = [
        jax.ShapeDtypeStruct(tuple(concrete(d, size) for d in a.shape), a.dtype)
        for a in jaxpr.in_avals
    ]
    run = Run(size, platform=platform)
    return jax.make_jaxpr(lambda *arrays: run.outputs(jaxpr, arrays))(*shapes)
