"""The only file that reaches inside JAX: what ``jax.extend`` does not offer.

Written for the JAX versions of pyproject.toml; whatever changes there is mended here.
"""

from __future__ import annotations

from typing import Any

from jax._src import source_info_util
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
