"""What is done with a loss function of the user: its closed-over arrays, weights and checks."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from xent_jax import _checks
from xent_jax._chunks import cleared
from xent_jax._reduction import valid
from xent_jax._zero import product


def hoisted(
    function: Callable[..., Any], *like: Any
) -> tuple[Callable[..., Any], tuple[Array, ...]]:
    """Returns ``of(closed_over, *args)``, and the tracers that ``function`` closes over.

    All tracers become operands: ``jax.closure_convert`` leaves those that are not differentiated,
    which ``vmap`` or a later trace of a rule may still be tracing.
    """
    traced, out = jax.make_jaxpr(function, return_shape=True)(*like)
    tracers = [isinstance(c, jax.core.Tracer) for c in traced.consts]

    def of(closed_over: tuple[Array, ...], *args: Any) -> Any:
        given = iter(closed_over)
        consts = [next(given) if t else c for t, c in zip(tracers, traced.consts, strict=True)]
        found = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, consts))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(out), found)

    return of, tuple(c for t, c in zip(tracers, traced.consts, strict=True) if t)


def weighed(found: tuple[Array, Any], weights: Array | None) -> tuple[Array, Any]:
    """Returns the losses of a chunk times their weights, and the auxiliaries without gradient.

    A loss with a negative or NaN weight is NaN, and the auxiliaries of a token of weight 0 are 0.
    """
    losses, aux = found
    if weights is not None:
        losses = product(valid(weights, losses.dtype), losses)
        aux = cleared(aux, weights != 0)
    return losses, jax.tree.map(lax.stop_gradient, aux)


def check_losses(name: str, of: str, tokens: int, losses: Any, aux: Any) -> None:
    """Raises ValueError unless losses and each array of aux have one entry for each token."""
    if getattr(losses, "shape", None) != (tokens,):
        raise ValueError(
            f"{name}: loss must give one number for each token, [{tokens}] for {of}, got "
            f"{_described(losses)}."
        )
    if any(getattr(a, "shape", ())[:1] != (tokens,) for a in jax.tree.leaves(aux)):
        raise ValueError(
            f"{name}: aux must hold arrays with one entry for each token, [{tokens}, ...] for "
            f"{of}, got {_described(aux)}."
        )


def _described(tree: Any) -> Any:
    return jax.tree.map(lambda x: _checks.describe(x) if hasattr(x, "shape") else repr(x), tree)
