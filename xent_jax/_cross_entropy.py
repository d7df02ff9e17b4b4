"""Softmax cross-entropy of logits, with integer labels and with soft labels.

Both are ``weighted_cross_entropy`` of a target ``t = a onehot(y) + b``. Class weights and label
smoothing are choices of a and b, soft labels are b, and c is the coefficient of the z-loss.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float, Int

from xent_jax import _checks, _shards
from xent_jax._labels import (
    IntegerArguments,
    class_weights_of,
    integer_arguments,
    integer_problem,
    number,
    smoothing_and_z_loss,
    soft_labels,
    soft_targets,
)
from xent_jax._layout import Layout, layout_of
from xent_jax._modes import Mode, in_both_modes
from xent_jax._reduction import reduce
from xent_jax._shards import Shards
from xent_jax._types import Axis, AxisName, Reduction
from xent_jax._weighted import weighted_cross_entropy
from xent_jax._zero import mixed


@in_both_modes
def softmax_cross_entropy(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*#shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    label_smoothing: float | Float[ArrayLike, ""] = 0.0,
    z_loss: float | Float[ArrayLike, ""] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    weights: Float[ArrayLike, "*batch"] | None = None,
    reduction: Reduction = "none",
    axis_name: AxisName | None = None,
    batch_axis_name: AxisName | None = None,
) -> Float[Shaped, "..."]:
    """Softmax cross-entropy with soft labels: ``-sum_j t_j log p_j``, p = softmax(z).

    Args:
        logits: ``[*batch, classes]``, floating-point, in nats.
        labels: t, one-hot or any numbers at least 0, broadcast to the logits. They need
            not sum to 1.
        axis: the class axis or axes; None for all axes.
        where: booleans with the shape of the batch, for the examples that take part; or
            booleans that broadcast to the logits, for the classes that take part. The label of
            a class that does not is ignored.
        label_smoothing: e in [0, 1]; ``t`` becomes ``(1 - e) t + e / classes``, over the
            classes that take part.
        z_loss: c, at least 0; adds ``c lse^2`` to the loss.
        class_weights: w, ``[classes]``; the loss becomes ``-sum_j w_j t_j log p_j``.
        weights: floats that broadcast to ``[*batch]``, at least 0; each multiplies its loss.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the examples that take part. With
            weights, a mean divides by their sum, and is 0 if that is 0.
        axis_name: inside ``jax.shard_map``, the mesh axis or axes over which the classes are
            sharded. Logits, labels, class_weights and a mask of classes are then this shard's.
        batch_axis_name: the mesh axes over which the examples are sharded; a sum or mean is
            then over all shards.

    Returns:
        Losses in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        logits' dtype. 0 for an example that does not take part, NaN for a weight that is
        negative or NaN. At a logit of -inf, a label above 0 gives +inf, and a label of 0 adds 0.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: ``(T + 2 c lse) p - t`` with ``T = sum(t)``, rounded once to the logits'
    dtype; ``lse - z`` to the labels, but 0 to a label of 0 at a logit of -inf. The weights, e
    and c have gradients too. Proof: ``softmax_cross_entropy``. Source: the tutorial that the
    project started from; Bridle (1990); z-loss: Chowdhery et al.
    (2022), "PaLM"; label smoothing: Szegedy et al. (2016), "Rethinking the Inception
    Architecture".

    >>> logits = jnp.array([[1.2, -0.8, -0.5]])
    >>> round(float(softmax_cross_entropy(logits, jnp.array([[1.0, 0.0, 0.0]]))[0]), 4)
    0.2761
    """
    name = "softmax_cross_entropy"
    logits = _checks.floats(name, "logits", logits)
    batch_shards = _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    layout = layout_of(name, logits, axis, where, axis_name=axis_name)
    labels = soft_labels(name, labels, logits)
    options = smoothing_and_z_loss(name, label_smoothing, z_loss)
    by_class = class_weights_of(name, class_weights, layout.size)
    weights = _checks.weights(name, weights, layout.batch)
    reduction = _checks.reduction(name, reduction)
    given = (logits, labels, layout, *options, by_class, weights)
    return _soft(mode, reduction, batch_shards, *given)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _soft(
    mode: Mode,
    reduction: Reduction,
    batch_shards: Shards,
    logits: Array,
    labels: Array,
    layout: Layout,
    smoothing: Any,
    z_loss: Any,
    by_class: Array | None,
    weights: Array | None,
) -> Array:
    z, t = layout.logits(mode, logits), soft_targets(labels, logits, layout)
    smoothing, c = number(smoothing, t.dtype), number(z_loss, t.dtype)
    if smoothing is not None:
        t, uniform = _shards.together(t, _uniform(layout, t.dtype))
        t = mixed(smoothing, t, uniform)
    if by_class is not None:
        by_class = layout.per_class(by_class.astype(t.dtype))
        z, t, by_class = _shards.together(z, t, by_class)
        t = t * by_class
    losses = weighted_cross_entropy(mode, z, None, None, t, c, None, shards=layout.shards)
    return reduce(losses, reduction, layout.example_mask, None, batch_shards, weights)


@in_both_modes
def softmax_cross_entropy_with_integer_labels(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    labels: Int[ArrayLike, "*batch"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float | Float[ArrayLike, ""] = 0.0,
    z_loss: float | Float[ArrayLike, ""] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    weights: Float[ArrayLike, "*batch"] | None = None,
    reduction: Reduction = "none",
    axis_name: AxisName | None = None,
    batch_axis_name: AxisName | None = None,
) -> Float[Shaped, "..."]:
    """Softmax cross-entropy with integer labels: ``-log p_y``, p = softmax(z).

    Args:
        logits: ``[*batch, classes]``, floating-point, in nats.
        labels: y, ``[*batch]``, integers in [0, classes). With several class axes, a label
            is an index into the classes flattened in the order of ``axis``.
        axis: the class axis or axes; None for all axes.
        where: booleans with the shape of the batch, for the examples that take part; or
            booleans that broadcast to the logits, for the classes that take part. If the
            label's class does not, the loss is +inf.
        ignore_index: a label whose examples do not take part, such as -100.
        label_smoothing: e in [0, 1]; the target becomes
            ``(1 - e) onehot(y) + e / classes``, over the classes that take part.
        z_loss: c, at least 0; adds ``c lse^2`` to the loss.
        class_weights: w, ``[classes]``. The loss is
            ``(1 - e) w_y (-log p_y) + e / classes sum_j w_j (-log p_j)``, as in PyTorch.
        weights: floats that broadcast to ``[*batch]``, at least 0; each multiplies its loss.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the examples that take part. With
            weights or class weights, a mean divides by the sum over the examples of weight
            times class weight of the label, and is 0 if the weights are all 0.
        axis_name: inside ``jax.shard_map``, the mesh axis or axes over which the classes are
            sharded. Logits, class_weights and a mask of classes are then this shard's.
        batch_axis_name: the mesh axes over which the examples are sharded; a sum or mean is
            then over all shards.

    Returns:
        Losses in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        logits' dtype. 0 for an example that does not take part. Value and gradient are NaN for
        a label out of range, and for a weight that is negative or NaN.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: ``(T + 2 c lse) p - t``, rounded once to the logits' dtype. At the label, without
    options, it is computed as ``-A / S`` with ``A = sum_{j != y} exp(z_j - m)`` and
    ``S = sum_j exp(z_j - m)``. The weights, e and c have gradients too. Proof:
    ``softmax_cross_entropy_with_integer_labels``. Source: as ``softmax_cross_entropy``.

    >>> logits = jnp.array([[1.2, -0.8, -0.5], [0.9, -1.2, 1.1]])
    >>> loss = softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 1]))
    >>> [round(float(x), 4) for x in loss]
    [0.2761, 2.9518]
    """
    name = "softmax_cross_entropy_with_integer_labels"
    batch_shards = _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    given = integer_arguments(
        name, logits, labels, axis, where, ignore_index, class_weights, axis_name
    )
    options = smoothing_and_z_loss(name, label_smoothing, z_loss)
    weights = _checks.weights(name, weights, given.layout.batch)
    reduction = _checks.reduction(name, reduction)
    return _integer(mode, reduction, batch_shards, given, *options, weights)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _integer(
    mode: Mode,
    reduction: Reduction,
    batch_shards: Shards,
    given: IntegerArguments,
    smoothing: Any,
    z_loss: Any,
    weights: Array | None,
) -> Array:
    p = integer_problem(mode, given)
    weighed, dtype = p.class_weights is not None, p.weight.dtype
    a, b = p.weight if weighed else None, None
    smoothing, c = number(smoothing, dtype), number(z_loss, dtype)
    if smoothing is not None:
        a = (1 - smoothing) * (p.weight if weighed else jnp.ones_like(p.weight))
        b = smoothing * _uniform(p.layout, dtype)
        if p.class_weights is not None:
            b, by_class = _shards.together(b, p.layout.per_class(p.class_weights))
            b = b * by_class
    shards = p.layout.shards
    losses = weighted_cross_entropy(mode, p.z, p.y, a, b, c, p.examples, shards=shards)
    if not weighed:  # Each weight is 1, or NaN where the label was out of range.
        losses = jnp.multiply(*_shards.together(losses, p.weight))
    return reduce(losses, reduction, p.layout.example_mask, p.divisor, batch_shards, weights)


def _uniform(layout: Layout, dtype) -> Array:
    """Returns 1 / (number of classes that take part), ``[..., 1]``, or ``[..., k]`` with a mask."""
    if layout.class_mask is None:
        count = layout.size * layout.shards.count
        return layout.per_class(jnp.full((1,), 1 / count, dtype))
    left_in = layout.shards.psum(jnp.sum(layout.class_mask, axis=-1, keepdims=True))
    left_in = jnp.maximum(left_in, 1)
    return jnp.where(layout.class_mask, 1 / left_in.astype(dtype), jnp.zeros((), dtype))
