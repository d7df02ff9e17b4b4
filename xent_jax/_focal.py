"""Focal loss of logits over classes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float, Int

from xent_jax import _checks
from xent_jax._closed_form import closed_form, to_argument
from xent_jax._labels import IntegerArguments, integer_arguments, integer_problem
from xent_jax._modes import Mode, in_both_modes
from xent_jax._reduction import reduce
from xent_jax._shards import Shards
from xent_jax._types import Axis, AxisName, Reduction
from xent_jax._weighted import weighted_cross_entropy
from xent_jax._zero import times


@in_both_modes
def softmax_focal_loss(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    labels: Int[ArrayLike, "*batch"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    gamma: float | Float[ArrayLike, ""] = 2.0,
    ignore_index: int | None = None,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    weights: Float[ArrayLike, "*batch"] | None = None,
    reduction: Reduction = "none",
    axis_name: AxisName | None = None,
    batch_axis_name: AxisName | None = None,
) -> Float[Shaped, "..."]:
    """Focal loss with integer labels: ``w_y (1 - p_y)^gamma (-log p_y)``, p = softmax(z).

    Args:
        logits: ``[*batch, classes]``, floating-point, in nats.
        labels, axis, where, ignore_index, weights, axis_name, batch_axis_name: as for
            ``softmax_cross_entropy_with_integer_labels``.
        gamma: the exponent, at least 0; 0 gives the cross-entropy.
        class_weights: w, ``[classes]``, called alpha in the paper.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the examples that take part. With
            weights or class weights, a mean divides by the sum over the examples of weight times
            class weight of the label.

    Returns:
        Losses in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        logits' dtype. Value and gradient are NaN for a label out of range, and for a weight that
        is negative or NaN.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: ``w_y u^gamma (1 + gamma p_y L / u) (p - onehot(y))`` with ``u = 1 - p_y``,
    ``L = -log p_y``; to gamma and the weights too. Proof: ``softmax_focal_loss``. Source:
    Lin et al. (2017), "Focal Loss for Dense Object Detection".

    >>> round(float(softmax_focal_loss(jnp.zeros(2), 0)), 4)
    0.1733
    """
    name = "softmax_focal_loss"
    batch_shards = _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    given = integer_arguments(
        name, logits, labels, axis, where, ignore_index, class_weights, axis_name
    )
    gamma = _checks.scalar(name, "gamma", gamma, 0)
    weights = _checks.weights(name, weights, given.layout.batch)
    reduction = _checks.reduction(name, reduction)
    return _focal(mode, reduction, batch_shards, given, gamma, weights)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _focal(
    mode: Mode,
    reduction: Reduction,
    batch_shards: Shards,
    given: IntegerArguments,
    gamma: Any,
    weights: Array | None,
) -> Array:
    p = integer_problem(mode, given)
    shards = p.layout.shards
    losses = weighted_cross_entropy(mode, p.z, p.y, None, None, None, p.examples, shards=shards)
    losses = _focus(mode, losses, jnp.asarray(gamma, losses.dtype), p.weight)
    return reduce(losses, reduction, p.layout.example_mask, p.divisor, batch_shards, weights)


def _focus_value(_, loss: Array, gamma: Array, weight: Array) -> Array:
    focal = jnp.power(-jnp.expm1(-loss), gamma) * loss
    return jnp.where(weight == 0, jnp.zeros((), loss.dtype), weight * focal)


# dL = w u^gamma (1 + gamma L p_y / u) g with u = 1 - p_y = 1 - exp(-L).
# Proof: softmax_focal_loss
def _focus_backward(_, args, g: Array):
    loss, gamma, weight = args
    wrong = -jnp.expm1(-loss)
    zero, one = jnp.zeros((), loss.dtype), jnp.ones((), loss.dtype)
    # At u = 0 the derivative of u^gamma may be infinite while that of u is 0, so use a constant.
    modulator = jnp.power(jnp.where(wrong == 0, one, wrong), gamma)
    modulator = jnp.where((wrong == 0) & (gamma > 0), zero, modulator)
    # L p_y / u tends to 1 as L goes to 0, and is 0 at L = inf.
    share = jnp.where(loss == 0, one, loss * jnp.exp(-loss) / jnp.where(loss == 0, one, wrong))
    share = jnp.where(loss == jnp.inf, zero, share)
    slope = modulator * (1 + gamma * share)
    log_wrong = jnp.where(wrong == 0, zero, jnp.log(jnp.where(wrong == 0, one, wrong)))
    by_gamma = jnp.where(wrong == 1, zero, modulator * log_wrong * loss)
    return (
        g * weight * slope,
        to_argument(g * weight * by_gamma, gamma),
        to_argument(times(g, modulator * loss), weight),
    )


_focus = closed_form(lambda *_: None, _focus_value, _focus_backward)
