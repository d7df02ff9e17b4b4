"""The arrays that the losses of tokens depend on, and which gradients to them are wanted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


class Operands(NamedTuple):
    """The arrays that the losses depend on; None for an optional one that is not given."""

    shared: tuple[Any, ...]  # used by all tokens: kernel, bias, parameters, what a loss closes over
    rows: tuple[Any, ...]  # [*batch, ...]: inputs, targets, and last the weights if there are any


class Wanted(NamedTuple):
    """Flags that say which gradients are asked for; no others are computed.

    JAX traces a call once and shares that trace between calls whose differentiated arguments
    differ, and it reads the tree of the residuals only when it transposes. So a residual must
    have the same tree whatever is differentiated, and these flags are kept in the shapes of its
    leaves.
    """

    shared: tuple[bool, ...]
    rows: tuple[bool, ...]

    @classmethod
    def of(cls, operands: Operands) -> "Wanted":
        """Reads the operands that ``symbolic_zeros`` marks as perturbed or not."""

        def one(x: Any) -> bool:
            return (
                x is not None
                and x.perturbed
                and jnp.issubdtype(jnp.result_type(x.value), jnp.floating)
            )

        return cls(*(tuple(map(one, part)) for part in operands))

    def as_residual(self) -> "Wanted":
        """Writes the flags as arrays of shape [1] for true and [0] for false."""
        return jax.tree.map(lambda wanted: jnp.zeros(int(wanted), jnp.bool_), self)

    def from_residual(self) -> "Wanted":
        """Undoes ``as_residual``."""
        return jax.tree.map(lambda kept: kept.shape == (1,), self)


def vjp_of(function: Callable[..., Any], wanted: tuple, *args: tuple) -> tuple[Any, Any, Any]:
    """Returns the result of ``jax.vjp`` with ``has_aux``, for the gradients that are wanted.

    Args:
        function: a function of tuples of arrays.
        wanted: for each tuple, which gradients are wanted; the others are None.
        args: the tuples.
    """
    some = [chosen(given, flags) for given, flags in zip(args, wanted, strict=True)]

    def of(*some: tuple) -> Any:
        return function(*(map(_joined, some, args)))

    return jax.vjp(of, *some, has_aux=True)


def added(sums: Any, gradients: Any) -> Any:
    """Returns the sums with the gradients of a chunk, in the dtypes of the sums."""
    return jax.tree.map(lambda total, d: total + d.astype(total.dtype), sums, gradients)


def chosen(values: tuple, wanted: tuple[bool, ...]) -> tuple:
    """Returns the values that are wanted, and None for the others."""
    return tuple(v if w else None for v, w in zip(values, wanted, strict=True))


def _joined(some: tuple, rest: tuple) -> tuple:
    return tuple(r if s is None else s for s, r in zip(some, rest, strict=True))


def residuals_of(gradients: Any) -> Any:
    """Returns the gradients as residuals, with an array of booleans for each None."""
    empty = jnp.zeros(0, jnp.bool_)
    return jax.tree.map(lambda d: empty if d is None else d, gradients, is_leaf=lambda d: d is None)


def gradients_of(residuals: Any) -> Any:
    """Undoes ``residuals_of``."""
    return jax.tree.map(lambda d: None if d.dtype == jnp.bool_ else d, residuals)


def values_of(primals: Any) -> Any:
    """Returns the arrays of the arguments that ``symbolic_zeros`` passes to a forward rule."""
    return jax.tree.map(
        lambda p: jnp.asarray(p.value), primals, is_leaf=lambda p: hasattr(p, "perturbed")
    )


def is_zero(g: Any) -> bool:
    return isinstance(g, SymbolicZero)
