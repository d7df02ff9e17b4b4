"""Softmax, log-softmax and log-sum-exp, over any axes and with masks."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float

from xent_jax import _checks, _shards
from xent_jax._closed_form import closed_form
from xent_jax._layout import Layout, layout_of
from xent_jax._modes import Mode, in_both_modes
from xent_jax._rows import (
    Rows,
    complement,
    hessian_product,
    probabilities,
    relative,
    row_shift,
    row_statistics,
)
from xent_jax._shards import Shards
from xent_jax._types import Axis, AxisName
from xent_jax._zero import masked


@in_both_modes
def softmax(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    axis_name: AxisName | None = None,
) -> Float[Shaped, "*shape"]:
    """Softmax, from logits to probabilities: ``p_j = exp(z_j) / sum_l exp(z_l)``.

    Args:
        logits: ``[*batch, classes]``, floating-point, in nats.
        axis: the class axis or axes; None for all axes.
        where: booleans with the shape of the batch, for the examples that take part; or
            booleans that broadcast to the logits, for the classes that take part.
        axis_name: inside ``jax.shard_map``, the mesh axis or axes over which the classes are
            sharded. Logits and ``where`` are then this shard's.

    Returns:
        Probabilities, with the shape and dtype of ``logits``; 0 where ``where`` is false.
        Half precision is computed in float32 and rounded once.

    Raises:
        TypeError: ``logits`` are not floating-point, or ``where`` is not boolean.
        ValueError: ``axis`` or the shape of ``where`` does not fit.

    Gradient: ``p * (g - <p, g>)``, computed without cancellation. Proof: ``softmax``.
    Source: Bridle (1990), "Probabilistic interpretation of feedforward classification network
    outputs".

    >>> softmax(jnp.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    logits = _checks.floats("softmax", "logits", logits)
    layout = layout_of("softmax", logits, axis, where, axis_name=axis_name)
    return _softmax_at(mode, logits, layout)


@functools.partial(jax.jit, static_argnums=0)
def _softmax_at(mode: Mode, logits: Array, layout: Layout) -> Array:
    p = _softmax(mode, layout.logits(mode, logits), shards=layout.shards)
    return layout.restore(layout.clear(p, 0.0), logits)


def _statistics(shards: Shards, _: bool, z: Array) -> Rows:
    return row_statistics(z, None, row_shift(z, shards), None, shards, False)


def _softmax_value(rows: Rows, z: Array) -> Array:
    return probabilities(rows, z, None).astype(z.dtype)


# dz = diag(p) g - p <p, g>.  Proof: softmax
def _softmax_backward(rows: Rows, args: tuple[Array], g: Array) -> tuple[Array]:
    (z,) = args
    p = probabilities(rows, z, None)
    # g may be infinite at p_j = 0, as the gradient of an entropy is.
    g = masked(p, g.astype(p.dtype))
    return (hessian_product(p, g, rows.shards).astype(z.dtype),)


_softmax = closed_form(_statistics, _softmax_value, _softmax_backward)


@in_both_modes
def log_softmax(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    axis_name: AxisName | None = None,
) -> Float[Shaped, "*shape"]:
    """Log-softmax: ``log p_j = z_j - log sum_l exp(z_l)``.

    Args:
        logits: ``[*batch, classes]``, floating-point, in nats.
        axis: the class axis or axes; None for all axes.
        where, axis_name: as for ``softmax``.

    Returns:
        Log-probabilities in nats, with the shape and dtype of ``logits``; -inf where
        ``where`` is false. Half precision is computed in float32 and rounded once.

    Raises:
        TypeError, ValueError: as ``softmax``.

    Gradient: ``g - p sum(g)``. Proof: ``log_softmax``. Source: as ``softmax``.

    >>> log_softmax(jnp.array([0.0, -jnp.inf])).tolist()
    [0.0, -inf]
    """
    logits = _checks.floats("log_softmax", "logits", logits)
    layout = layout_of("log_softmax", logits, axis, where, axis_name=axis_name)
    return _log_softmax_at(mode, logits, layout)


@functools.partial(jax.jit, static_argnums=0)
def _log_softmax_at(mode: Mode, logits: Array, layout: Layout) -> Array:
    log_p = _log_softmax(mode, layout.logits(mode, logits), shards=layout.shards)
    return layout.restore(layout.clear(log_p, -jnp.inf), logits)


def _log_softmax_value(rows: Rows, z: Array) -> Array:
    return (relative(z, rows.shift[..., None]) - rows.log_total[..., None]).astype(z.dtype)


# dz = g - p sum(g) = (1 - p) g - p (sum(g) - g). The first form cancels where p is close to 1.
# Proof: log_softmax
def _log_softmax_backward(rows: Rows, args: tuple[Array], g: Array) -> tuple[Array]:
    (z,) = args
    p = probabilities(rows, z, None)
    g = g.astype(p.dtype)
    others = rows.shards.psum(jnp.sum(g, axis=-1, keepdims=True)) - g
    return ((complement(rows, z) * g - p * others).astype(z.dtype),)


_log_softmax = closed_form(_statistics, _log_softmax_value, _log_softmax_backward)


@in_both_modes
def logsumexp(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    axis_name: AxisName | None = None,
) -> Float[Shaped, "*batch"]:
    """Log-sum-exp: ``lse = log sum_l exp(z_l)``, the logarithm of the divisor in softmax.

    Args:
        logits: ``[*batch, classes]``, floating-point, in nats.
        axis: the class axis or axes; None for all axes.
        where, axis_name: as for ``softmax``.

    Returns:
        ``[*batch]``, in nats; float32 for half precision, else the logits' dtype. -inf
        where no class takes part or all logits are -inf.

    Raises:
        TypeError, ValueError: as ``softmax``.

    Gradient: ``p g``. Proof: ``logsumexp``. Source: Boyd and Vandenberghe (2004),
    "Convex Optimization", section 3.1.5.

    >>> round(float(logsumexp(jnp.zeros(8))), 4)
    2.0794
    """
    logits = _checks.floats("logsumexp", "logits", logits)
    layout = layout_of("logsumexp", logits, axis, where, axis_name=axis_name)
    return _logsumexp_at(mode, logits, layout)


@functools.partial(jax.jit, static_argnums=0)
def _logsumexp_at(mode: Mode, logits: Array, layout: Layout) -> Array:
    z = layout.logits(mode, logits)
    lse = _logsumexp(mode, z, shards=layout.shards)
    empty = row_shift(z, layout.shards) == -jnp.inf
    if layout.example_mask is not None:
        empty, examples = _shards.together(empty, layout.example_mask)
        empty = empty | ~examples
    return jnp.where(empty, jnp.asarray(-jnp.inf, lse.dtype), lse)


def _logsumexp_value(rows: Rows, z: Array) -> Array:
    return rows.shift + rows.log_total


# dz = p g.  Proof: logsumexp
def _logsumexp_backward(rows: Rows, args: tuple[Array], g: Array) -> tuple[Array]:
    (z,) = args
    return ((rows.whole(g)[..., None] * probabilities(rows, z, None)).astype(z.dtype),)


_logsumexp = closed_form(_statistics, _logsumexp_value, _logsumexp_backward)
