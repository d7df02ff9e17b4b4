"""Softmax cross-entropy of logits, with integer labels or with soft ones.

One formula serves them all, for an example with target ``t = a onehot(y) + b``:

    L  = T lse + c lse^2 - <t, z>          T = sum(t)
    dL = (T + 2 c lse) p - t               p = softmax(z)

Class weights and label smoothing are choices of a and b, soft labels are b, z-loss is c.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float, Int

from xent_jax import _checks, _shards
from xent_jax._closed_form import closed_form, moves, to_argument
from xent_jax._layout import Layout, layout
from xent_jax._reduction import reduce
from xent_jax._rows import (
    Rows,
    accumulator,
    at_label,
    exponentials,
    hessian_product,
    hits,
    other_exponentials,
    probabilities,
    row_shift,
    row_statistics,
)
from xent_jax._types import Axis, AxisName, Reduction


def softmax_cross_entropy(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*#shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    label_smoothing: float | Float[ArrayLike, ""] = 0.0,
    z_loss: float | Float[ArrayLike, ""] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
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
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the examples left in.
        axis_name: inside ``jax.shard_map`` the mesh axis, or axes, over which the classes are
            divided: logits, labels, class_weights and a mask of classes are this shard's.
        batch_axis_name: the mesh axes over which the examples are divided: a sum or mean is
            then over all of them.

    Returns:
        Losses in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        logits' dtype. 0 for an example that is out. A label on a logit of -inf costs
        +inf, no label costs 0 there.

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
    z, t = place.logits(logits), soft_targets(name, labels, logits, place)
    smoothing, c = smoothing_and_z_loss(name, label_smoothing, z_loss, t.dtype)
    reduction = _checks.reduction(name, reduction)
    if smoothing is not None:
        t = (1 - smoothing) * t + smoothing * _uniform(place, t.dtype)
    if class_weights is not None:
        t = t * place.per_class(class_weights_of(name, class_weights, place.size, t.dtype))
    losses = weighted_cross_entropy(z, None, None, t, c, axis_name=axis_name)
    return reduce(losses, reduction, place.examples, None, batch_axis_name)


def softmax_cross_entropy_with_integer_labels(
    logits: Float[ArrayLike, "*shape"],
    labels: Int[ArrayLike, "*batch"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float | Float[ArrayLike, ""] = 0.0,
    z_loss: float | Float[ArrayLike, ""] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
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
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the examples left in, with
            class weights over the sum of their labels' weights.
        axis_name: inside ``jax.shard_map`` the mesh axis, or axes, over which the classes are
            divided: logits, class_weights and a mask of classes are this shard's.
        batch_axis_name: the mesh axes over which the examples are divided: a sum or mean is
            then over all of them.

    Returns:
        Losses in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        logits' dtype. 0 for an example that is out, NaN, in value and gradient, for a
        label out of range.

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
    p = integer_problem(name, logits, labels, axis, where, ignore_index, class_weights, axis_name)
    smoothing, c = smoothing_and_z_loss(name, label_smoothing, z_loss, p.weight.dtype)
    reduction = _checks.reduction(name, reduction)
    a, b = p.weight, None
    if smoothing is not None:
        a = (1 - smoothing) * a
        b = smoothing * _uniform(p.place, a.dtype)
        b = b if p.class_weights is None else b * p.place.per_class(p.class_weights)
    losses = weighted_cross_entropy(p.z, p.y, a, b, c, axis_name=axis_name)
    return reduce(losses, reduction, p.place.examples, p.divisor, batch_axis_name)


class IntegerProblem(NamedTuple):
    """Logits and integer labels, checked and laid out."""

    place: Layout
    z: Array  # [..., k]
    y: Array  # [...], int32, in range, counted from the shard's first class
    weight: Array  # [...]: the label's weight, NaN where the label was out of range
    class_weights: Array | None

    @property
    def divisor(self) -> Array | None:
        """What a mean divides by, one for each example; None for 1."""
        return None if self.class_weights is None else self.weight


def integer_problem(
    name: str, logits, labels, axis, where, ignore_index, class_weights, axis_name
) -> IntegerProblem:
    """Checks and lays out the arguments that losses with integer labels share."""
    logits = _checks.floats(name, "logits", logits)
    labels = _checks.integers(
        name, "labels", labels, "For one-hot or soft labels use softmax_cross_entropy."
    )
    place = layout(name, logits, axis, where, axis_name=axis_name)
    _checks.shape(name, "labels", labels, place.batch, "that of logits without the class axes")
    ignored = _checks.ignore_index(name, ignore_index, labels.dtype)
    if ignored is not None:
        place = place.without(labels != ignored)
    dtype = accumulator(logits.dtype)
    weights = None
    if class_weights is not None:
        weights = class_weights_of(name, class_weights, place.size, dtype)
    y, weight = weighed(labels, place.size, weights, place.examples, dtype, axis_name)
    return IntegerProblem(place, place.logits(logits), y, weight, weights)


def weighed(
    labels: Array,
    classes: int,
    weights: Array | None,
    examples: Array | None,
    dtype,
    axis_name: AxisName | None,
) -> tuple[Array, Array]:
    """Labels in range, and the weight of each: NaN where one was not, 1 where an example is out."""
    if labels.dtype.itemsize < 4:  # or the number of classes may not fit
        labels = labels.astype(jnp.int32)
    in_range = (labels >= 0) & (labels < classes * _shards.count(axis_name))
    y = jnp.where(in_range, labels, jnp.zeros((), labels.dtype)).astype(jnp.int32)
    if axis_name is not None:
        y = y - _shards.first_class(classes, axis_name)
    weight = jnp.ones((), dtype) if weights is None else at_label(weights, y, axis_name)
    weight = jnp.where(in_range, weight, jnp.asarray(jnp.nan, dtype))
    if examples is not None:
        weight = jnp.where(examples, weight, jnp.ones((), dtype))
    return y, weight


def soft_targets(name: str, labels, logits: Array, place: Layout) -> Array:
    """Soft labels, checked and laid out, 0 at what is out."""
    labels = _checks.array(name, "labels", labels)
    hint = "For class indices use softmax_cross_entropy_with_integer_labels."
    if jnp.issubdtype(labels.dtype, jnp.complexfloating) or (
        jnp.issubdtype(labels.dtype, jnp.integer) and labels.ndim < logits.ndim
    ):
        raise TypeError(
            f"{name}: labels must be probabilities, one for each logit of "
            f"{_checks.describe(logits)}, got {_checks.describe(labels)}. {hint}"
        )
    labels = _checks.broadcastable(name, "labels", labels, logits.shape, hint=hint)
    t = place.classes_last(labels).astype(accumulator(logits.dtype))
    return place.clear(t, 0.0)


def smoothing_and_z_loss(
    name: str, label_smoothing, z_loss, dtype
) -> tuple[Array | None, Array | None]:
    """e and c as arrays, None where they are off."""
    smoothing = _checks.scalar(name, "label_smoothing", label_smoothing, 0, 1)
    c = _checks.scalar(name, "z_loss", z_loss, 0)
    return (
        None if _checks.unused(smoothing) else jnp.asarray(smoothing, dtype),
        None if _checks.unused(c) else jnp.asarray(c, dtype),
    )


def class_weights_of(name: str, weights, classes: int, dtype) -> Array:
    """Class weights, checked."""
    weights = _checks.array(name, "class_weights", weights)
    _checks.shape(name, "class_weights", weights, (classes,), "one for each class")
    return weights.astype(dtype)


def _uniform(place: Layout, dtype) -> Array:
    """1 over the number of classes left in, one for all or [..., k] with 0 at those out."""
    if place.classes is None:
        count = place.size * _shards.count(place.axis_name)
        return place.per_class(jnp.full((1,), 1 / count, dtype))
    left = _shards.total(jnp.sum(place.classes, axis=-1, keepdims=True), place.axis_name)
    left = jnp.maximum(left, 1)
    return jnp.where(place.classes, 1 / left.astype(dtype), jnp.zeros((), dtype))


class _Statistics(NamedTuple):
    rows: Rows
    spread: Array | None  # [...]: sum_j b_j (m - z_j)
    mass: Array | None  # [...]: sum_j b_j


def _statistics(axis_name, z: Array, y, a, b, c) -> _Statistics:
    shift = row_shift(z, axis_name)
    if b is None:
        return _Statistics(row_statistics(z, y, shift, axis_name), None, None)
    # sum_j b_j (m - z_j), with 0 * inf = 0. Its derivative is that of the value.
    gap = shift[..., None] - z.astype(shift.dtype)
    spread = jnp.sum(jnp.where(b == 0, jnp.zeros((), gap.dtype), b * gap), axis=-1)
    # One number may stand for all classes.
    mass = b.squeeze(-1) * z.shape[-1] if b.shape[-1] == 1 else jnp.sum(b, axis=-1)
    spread, mass = _shards.total((spread, mass), axis_name)
    spread = lax.stop_gradient(spread)
    # A NaN label poisons its row; and since the exponentials now wait for this sum, XLA
    # computes both [n, k] arrays in one buffer, that of the gradient.
    shift = jnp.where(jnp.isnan(spread), spread, shift)
    return _Statistics(row_statistics(z, y, shift, axis_name), spread, mass)


def _value(statistics: _Statistics, z: Array, y, a, b, c) -> Array:
    rows, spread, mass = statistics
    loss = jnp.zeros_like(rows.shift)
    if rows.label is not None:
        loss = jnp.where(a == 0, loss, a * rows.label.loss)
    if spread is not None and mass is not None:
        loss = loss + (spread + mass * rows.log_total)
    if c is not None:
        lse = rows.shift + rows.log_total
        loss = loss + c * lse * lse
    return loss


# dz = (T + 2 c lse) p - t, da = -log p_y, db = lse - z, dc = lse^2, each times g.
# Proof: softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
def _backward(statistics: _Statistics, args, g: Array):
    rows, _, mass = statistics
    z, y, a, b, c = args
    whole = rows.whole(g)[..., None]
    g_z = whole * _gradient(rows, z, y, a, b, mass, c)
    g_a = g_b = g_c = None
    if rows.label is not None:
        g_a = to_argument(g * rows.label.loss, a)
    if b is not None:
        surprise = (rows.shift[..., None] - z.astype(g.dtype)) + rows.log_total[..., None]
        # 0 * inf = 0 here too, or a class that is out would reach the options as NaN.
        surprise = jnp.where((b == 0) & (z == -jnp.inf), jnp.zeros((), g.dtype), surprise)
        g_b = to_argument(whole * surprise, b)
    if c is not None:
        lse = rows.shift + rows.log_total
        g_c = to_argument(g * lse * lse, c)
    return g_z.astype(z.dtype), None, g_a, g_b, g_c


weighted_cross_entropy = closed_form(_statistics, _value, _backward)


@jax.custom_jvp
def _gradient(rows: Rows, z: Array, y, a, b, mass, c) -> Array:
    """(T + 2 c lse) p - t; linear in a, b with its mass, and c, of which any may be absent."""
    free = jnp.zeros_like(rows.shift)  # the factor of p, but for the label's a
    if mass is not None:
        free = free + mass
    if c is not None:
        free = free + 2 * c * (rows.shift + rows.log_total)
    if rows.label is None:
        gradient = exponentials(rows, z, y) * (free / rows.total)[..., None]
    else:
        a = jnp.zeros_like(rows.shift) if a is None else a
        # p_y - 1 = -A / S, where the subtraction would cancel.
        own = (free * rows.label.own - a * rows.label.others) / rows.total
        elsewhere = other_exponentials(z, y, rows.shift) * ((a + free) / rows.total)[..., None]
        gradient = jnp.where(hits(z, y), own[..., None], elsewhere)
    return gradient if b is None else gradient - b


def _gradient_jvp(primals, tangents):
    rows, z, y, a, b, mass, c = primals
    _, v, _, *coefficients = tangents
    out = _gradient(*primals)
    moved = jnp.zeros_like(out)
    coefficients = [t if moves(t) else None for t in coefficients]
    if any(t is not None for t in coefficients):
        moved = moved + _gradient(rows, z, y, *coefficients)
    if moves(v):
        # (T + 2 c lse) H v + 2 c <p, v> p
        v = v.astype(out.dtype)
        p = probabilities(rows, z, y)
        slope = jnp.zeros_like(rows.shift)
        if a is not None:
            slope = slope + a
        if mass is not None:
            slope = slope + mass
        if c is not None:
            slope = slope + 2 * c * (rows.shift + rows.log_total)
            along = _shards.total(jnp.sum(p * v, axis=-1), rows.axis_name)
            moved = moved + (2 * c * along)[..., None] * p
        moved = moved + slope[..., None] * hessian_product(p, v, rows.axis_name)
    return out, moved


_gradient.defjvp(_gradient_jvp, symbolic_zeros=True)
