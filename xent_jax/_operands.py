"""What a linear head's losses depend on, and which of its gradients are asked for."""

import dataclasses
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


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which gradients are asked for: no other is computed."""

    inputs: bool
    kernel: bool
    bias: bool
    targets: tuple[bool, ...]
    closed_over: tuple[bool, ...]

    @classmethod
    def of(cls, operands: Operands) -> "Wanted":
        """From operands that say whether they are perturbed."""

        def one(x: Any) -> bool:
            return (
                x is not None
                and x.perturbed
                and jnp.issubdtype(jnp.result_type(x.value), jnp.floating)
            )

        inputs, kernel, bias, targets, closed_over = operands
        many = tuple(map(one, targets)), tuple(map(one, closed_over))
        return cls(one(inputs), one(kernel), one(bias), *many)


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
