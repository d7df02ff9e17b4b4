"""The only file that reaches inside JAX: what ``jax.extend`` does not offer.

Written for the JAX versions of pyproject.toml; whatever changes there is mended here.
"""

from __future__ import annotations

from typing import Any

import jax
from jax._src import source_info_util
from jax._src.interpreters import partial_eval
from jax.extend import core


def symbolic_terms(dim: Any) -> list[tuple[int, list[tuple[str, int]]]] | None:
    """A symbolic dimension as a sum of products of named ones; None if it is not that."""
    found = []
    for term, coefficient in dim._sorted_terms:
        factors = []
        for factor, exponent in term._factors:
            if factor.var is None:
                return None
            factors.append((factor.var, exponent))
        found.append((coefficient, factors))
    return found


def where_written(eqn: core.JaxprEqn) -> str:
    """The line of the user's source that an equation comes from."""
    return source_info_util.summarize(eqn.source_info)


def without_dead_code(jaxpr: core.ClosedJaxpr) -> core.ClosedJaxpr:
    """The same function without equations that no output depends on, as XLA compiles it."""
    outputs = [True] * len(jaxpr.jaxpr.outvars)
    live, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, outputs, instantiate=True)
    return jaxpr.replace(jaxpr=live)


def in_float64() -> Any:
    """A context in which JAX computes in float64."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # type: ignore[attr-defined]

    return enable_x64()
