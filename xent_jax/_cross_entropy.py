"""Softmax cross-entropy of logits, with integer labels or with soft ones.

Both are ``weighted_cross_entropy`` of a target ``t = a onehot(y) + b``: class weights and label
smoothing are choices of a and b, soft labels are b, z-loss is c.
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
from xent_jax._layout import Layout, layout
from xent_jax._modes import Mode, in_both_modes
from xent_jax._reduction import reduce
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
        logits: ``[*batch, classes]``, floating, in nats.
        labels: t, one-hot or any weights at least 0, broadcast to the logits. They need
            not sum to 1.
        axis: the class axis, or axes, or None for all.
        where: booleans with the shape of the batch: the examples that take part; or that
            broadcast to the logits: the classes, whose labels are left out with them.
        label_smoothing: e in [0, 1]; ``t`` becomes ``(1 - e) t + e / classes``, over the
            classes left in.
        z_loss: c, at least 0; adds ``c lse^2``.
        class_weights: ``[classes]``; each term's factor, ``-sum_j w_j t_j log p_j``.
        weights: floats that broadcast to ``[*batch]``, at least 0: the factor of each loss.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the examples left in, with weights
            over the sum of those (0 where it is 0).
        axis_name: inside ``jax.shard_map`` the mesh axis, or axes, over which the classes are
            divided: logits, labels, class_weights and a mask of classes are this shard's.
        batch_axis_name: the mesh axes over which the examples are divided: a sum or mean is
            then over all of them.

    Returns:
        Losses in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        logits' dtype. 0 for an example that is out, NaN for a weight that is not at least 0.
        A label on a logit of -inf costs +inf, no label costs 0 there.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, option or range is.

    Gradient: ``(T + 2 c lse) p - t`` with ``T = sum(t)``, rounded once to the logits'
    dtype; ``lse - z`` to the labels, 0 to one of 0 over -inf; to the weights, e and c too. Proof:
    ``softmax_cross_entropy``. Source: the seed; Bridle (1990); z-loss: Chowdhery et al.
    (2022), "PaLM"; smoothing: Szegedy et al. (2016), "Rethinking the Inception
    Architecture".

    >>> logits = jnp.array([[1.2, -0.8, -0.5]])
    >>> round(float(softmax_cross_entropy(logits, jnp.array([[1.0, 0.0, 0.0]]))[0]), 4)
    0.2761
    """
    name = "softmax_cross_entropy"
    logits = _checks.floats(name, "logits", logits)
    _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    place = layout(name, logits, axis, where, axis_name=axis_name)
    labels = soft_labels(name, labels, logits)
    options = smoothing_and_z_loss(name, label_smoothing, z_loss)
    by_class = class_weights_of(name, class_weights, place.size)
    weights = _checks.weights(name, weights, place.batch)
    reduction = _checks.reduction(name, reduction)
    given = (logits, labels, place, *options, by_class, weights)
    return _soft(mode, reduction, batch_axis_name, *given)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _soft(
    mode: Mode,
    reduction: Reduction,
    batch_axis_name: AxisName | None,
    logits: Array,
    labels: Array,
    place: Layout,
    smoothing: Any,
    z_loss: Any,
    by_class: Array | None,
    weights: Array | None,
) -> Array:
    z, t = place.logits(mode, logits), soft_targets(labels, logits, place)
    smoothing, c = number(smoothing, t.dtype), number(z_loss, t.dtype)
    if smoothing is not None:
        t, uniform = _shards.together(t, _uniform(place, t.dtype))
        t = mixed(smoothing, t, uniform)
    if by_class is not None:
        by_class = place.per_class(by_class.astype(t.dtype))
        z, t, by_class = _shards.together(z, t, by_class)
        t = t * by_class
    losses = weighted_cross_entropy(mode, z, None, None, t, c, None, axis_name=place.axis_name)
    return reduce(losses, reduction, place.examples, None, batch_axis_name, weights)


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
        logits: ``[*batch, classes]``, floating, in nats.
        labels: y, ``[*batch]``, integers in [0, classes); over several axes an index
            into the classes flattened in the order of ``axis``.
        axis: the class axis, or axes, or None for all.
        where: booleans with the shape of the batch: the examples that take part; or that
            broadcast to the logits: the classes. A label whose class is out costs +inf.
        ignore_index: a label that leaves its example out, such as -100.
        label_smoothing: e in [0, 1]; the target becomes
            ``(1 - e) onehot(y) + e / classes``, over the classes left in.
        z_loss: c, at least 0; adds ``c lse^2``.
        class_weights: w, ``[classes]``. The loss is
            ``(1 - e) w_y (-log p_y) + e / classes sum_j w_j (-log p_j)``, as in PyTorch.
        weights: floats that broadcast to ``[*batch]``, at least 0: the factor of each loss.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the examples left in, with
            weights or class weights over the sum of each example's own times its label's
            (0 where it is 0).
        axis_name: inside ``jax.shard_map`` the mesh axis, or axes, over which the classes are
            divided: logits, class_weights and a mask of classes are this shard's.
        batch_axis_name: the mesh axes over which the examples are divided: a sum or mean is
            then over all of them.

    Returns:
        Losses in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        logits' dtype. 0 for an example that is out, NaN, in value and gradient, for a
        label out of range or a weight that is not at least 0.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, option or range is.

    Gradient: ``(T + 2 c lse) p - t``, at the label ``-A / S`` with
    ``A = sum_{j != y} exp(z_j - m)``; rounded once to the logits' dtype; to the weights,
    e and c too. Proof: ``softmax_cross_entropy_with_integer_labels``. Source: as
    ``softmax_cross_entropy``.

    >>> logits = jnp.array([[1.2, -0.8, -0.5], [0.9, -1.2, 1.1]])
    >>> loss = softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 1]))
    >>> [round(float(x), 4) for x in loss]
    [0.2761, 2.9518]
    """
    name = "softmax_cross_entropy_with_integer_labels"
    _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    given = integer_arguments(
        name, logits, labels, axis, where, ignore_index, class_weights, axis_name
    )
    options = smoothing_and_z_loss(name, label_smoothing, z_loss)
    weights = _checks.weights(name, weights, given.place.batch)
    reduction = _checks.reduction(name, reduction)
    return _integer(mode, reduction, batch_axis_name, given, *options, weights)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _integer(
    mode: Mode,
    reduction: Reduction,
    batch_axis_name: AxisName | None,
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
        b = smoothing * _uniform(p.place, dtype)
        if p.class_weights is not None:
            b, by_class = _shards.together(b, p.place.per_class(p.class_weights))
            b = b * by_class
    axis_name = p.place.axis_name
    losses = weighted_cross_entropy(mode, p.z, p.y, a, b, c, p.examples, axis_name=axis_name)
    if not weighed:  # Each weight is 1, or NaN where the label was out of range.
        losses = jnp.multiply(*_shards.together(losses, p.weight))
    return reduce(losses, reduction, p.place.examples, p.divisor, batch_axis_name, weights)


def _uniform(place: Layout, dtype) -> Array:
    """1 over the number of classes left in, one for all or [..., k] with 0 at those out."""
    if place.classes is None:
        count = place.size * _shards.count(place.axis_name)
        return place.per_class(jnp.full((1,), 1 / count, dtype))
    left = _shards.total(jnp.sum(place.classes, axis=-1, keepdims=True), place.axis_name)
    left = jnp.maximum(left, 1)
    return jnp.where(place.classes, 1 / left.astype(dtype), jnp.zeros((), dtype))
