"""What a linear head's losses depend on, and which of its gradients are asked for.

JAX traces a call once and shares that trace between calls whose differentiated arguments
differ, and it reads the tree of the residuals only when it transposes. So a residual must have
the same tree whatever is differentiated. What was asked for is therefore written in the
residual's leaves: see ``Wanted.as_residual`` and ``or_unasked``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


class Operands(NamedTuple):
    """All that the losses depend on."""

    inputs: Any  # [*batch, D]
    kernel: Any  # [D, V], or [V, D]
    bias: Any  # [V], or None
    targets: Any  # a tuple of arrays [*batch, ...]
    closed_over: Any  # a tuple of arrays: what the loss of logits reads besides


class Wanted(NamedTuple):
    """Which gradients are asked for: no other is computed."""

    inputs: bool
    kernel: bool
    bias: bool
    targets: tuple[bool, ...]
    closed_over: tuple[bool, ...]

    @classmethod
    def of(cls, operands: Operands) -> "Wanted":
        """Reads the operands that ``symbolic_zeros`` marks as perturbed or not."""

        def one(x: Any) -> bool:
            return (
                x is not None
                and x.perturbed
                and jnp.issubdtype(jnp.result_type(x.value), jnp.floating)
            )

        inputs, kernel, bias, targets, closed_over = operands
        many = tuple(map(one, targets)), tuple(map(one, closed_over))
        return cls(one(inputs), one(kernel), one(bias), *many)

    def as_residual(self) -> "Wanted":
        """Writes the flags as arrays of shape [1] for true and [0] for false."""
        return jax.tree.map(lambda wanted: jnp.zeros(int(wanted), jnp.bool_), self)

    def from_residual(self) -> "Wanted":
        """Undoes ``as_residual``."""
        return jax.tree.map(lambda kept: kept.shape == (1,), self)


def or_unasked(gradients: Any) -> Any:
    """The gradients, with an array of booleans in the places of None, to be kept as residuals."""
    empty = jnp.zeros(0, jnp.bool_)
    return jax.tree.map(lambda d: empty if d is None else d, gradients, is_leaf=lambda d: d is None)


def or_none(gradients: Any) -> Any:
    """Undoes ``or_unasked``."""
    return jax.tree.map(lambda d: None if d.dtype == jnp.bool_ else d, gradients)


def chosen(values: tuple, wanted: tuple[bool, ...]) -> tuple:
    """Those that are wanted, None in the others' places."""
    return tuple(v if w else None for v, w in zip(values, wanted, strict=True))


def joined(some: tuple, rest: tuple) -> tuple:
    """``some``, and ``rest`` in the places of None."""
    return tuple(r if s is None else s for s, r in zip(some, rest, strict=True))


def values_of(primals: Any) -> Any:
    """The arrays of what ``symbolic_zeros`` hands to a forward."""
    return jax.tree.map(
        lambda p: jnp.asarray(p.value), primals, is_leaf=lambda p: hasattr(p, "perturbed")
    )


def is_zero(g: Any) -> bool:
    """Whether a cotangent is known to be 0."""
    return isinstance(g, SymbolicZero)
