"""Checks and lays out the labels, weights and options that the losses over classes share."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from xent_jax import _checks, _shards
from xent_jax._layout import Layout, layout_of
from xent_jax._modes import Mode
from xent_jax._rows import at_label, poisoned
from xent_jax._shards import Shards
from xent_jax._types import accumulator


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class IntegerArguments:
    """The checked arguments of a loss with integer labels."""

    logits: Array
    labels: Array
    class_weights: Array | None
    layout: Layout
    ignored: int | None = dataclasses.field(metadata={"static": True})


class IntegerProblem(NamedTuple):
    """Logits and integer labels, laid out."""

    layout: Layout
    z: Array  # [..., k]
    examples: Array | None  # [...] booleans: which take part; z may be NaN at the others
    y: Array  # [...], int32, in range, counted from the shard's first class
    weight: Array  # [...]: the label's weight, NaN where the label was out of range
    class_weights: Array | None

    @property
    def divisor(self) -> Array | None:
        """A mean divides by the sum of these, one per example; None stands for ones."""
        return None if self.class_weights is None else self.weight


def integer_arguments(
    name: str, logits, labels, axis, where, ignore_index, class_weights, axis_name
) -> IntegerArguments:
    """Checks the arguments that the losses with integer labels share."""
    logits = _checks.floats(name, "logits", logits, "The logits come first, then the labels. ")
    labels = _checks.integers(
        name, "labels", labels, "For one-hot or soft labels use softmax_cross_entropy. "
    )
    layout = layout_of(name, logits, axis, where, axis_name=axis_name)
    _checks.shape(
        name, "labels", labels, layout.batch, "that of logits without the class axes",
        f" The classes lie along axis={axis!r}; one-hot labels are for softmax_cross_entropy.",
    )  # fmt: skip
    ignored = _checks.ignore_index(name, ignore_index, labels.dtype)
    weights = class_weights_of(name, class_weights, layout.size)
    return IntegerArguments(logits, labels, weights, layout, ignored)


def integer_problem(mode: Mode, given: IntegerArguments) -> IntegerProblem:
    """Lays out the arguments that the losses with integer labels share."""
    layout, labels, weights = given.layout, given.labels, given.class_weights
    if given.ignored is not None:
        layout = layout.without(~equal(labels, given.ignored))
    dtype = accumulator(given.logits.dtype)
    weights = None if weights is None else weights.astype(dtype)
    y, weight = weighed(labels, layout.size, weights, layout.example_mask, dtype, layout.shards)
    # A mask of classes needs masked logits, and so do JAX's own derivatives in forward mode.
    apart = mode == "reverse" and layout.class_mask is None
    z = layout.classes_last(given.logits) if apart else layout.logits(mode, given.logits)
    return IntegerProblem(layout, z, layout.example_mask if apart else None, y, weight, weights)


def in_int32(labels: Array) -> Array:
    """Converts labels of any integer dtype to int32; a label out of range stays out of range.

    They can then be compared with a number of classes that int8 cannot hold, and a label of uint32
    or int64 does not turn into another one by losing its upper bits.
    """
    info, wanted = jnp.iinfo(labels.dtype), jnp.iinfo(jnp.int32)
    if info.min < wanted.min or info.max > wanted.max:
        labels = jnp.clip(labels, max(info.min, -1), wanted.max)
    return labels.astype(jnp.int32)


def equal(labels: Array, label: int) -> Array:
    """Returns ``labels == label``, for a label that JAX's default integer may not hold."""
    return labels == jnp.asarray(label, labels.dtype)


def weighed(
    labels: Array,
    classes: int,
    weights: Array | None,
    examples: Array | None,
    dtype,
    shards: Shards,
) -> tuple[Array, Array]:
    """Returns labels in range and their weights ``[...]``.

    The weight is NaN for a label out of range, and 1 for an example that does not take part.
    """
    labels, examples = _shards.together(labels, examples)
    labels = in_int32(labels)
    in_range = (labels >= 0) & (labels < classes * shards.count)
    y = jnp.where(in_range, labels, jnp.zeros((), labels.dtype))
    if shards:
        y = y - shards.first_class(classes)
    weight = jnp.ones((), dtype) if weights is None else at_label(weights, y, shards)
    if examples is not None:
        weight = jnp.where(examples, weight, jnp.ones((), dtype))
        in_range = in_range | ~examples
    return y, poisoned(weight, in_range)


def soft_labels(name: str, labels, logits: Array) -> Array:
    """Checks soft labels, and returns them with their dtype and with the rank of the logits."""
    labels = _checks.reals(name, "labels", labels)
    hint = "For class indices use softmax_cross_entropy_with_integer_labels."
    if jnp.issubdtype(labels.dtype, jnp.integer) and labels.ndim < logits.ndim:
        raise TypeError(
            f"{name}: labels must be probabilities, one for each logit of "
            f"{_checks.describe(logits)}, got {_checks.describe(labels)}. {hint}"
        )
    return _checks.broadcastable(name, "labels", labels, logits.shape, hint=hint)


def soft_targets(labels: Array, logits: Array, layout: Layout) -> Array:
    """Returns soft labels ``[..., k]`` in the dtype of the losses, 0 where masked."""
    t = layout.classes_last(labels).astype(accumulator(logits.dtype))
    return layout.clear(t, 0.0)


def smoothing_and_z_loss(name: str, label_smoothing, z_loss) -> tuple[Any, Any]:
    """Checks the options e and c, and returns None for one that is off."""
    smoothing = _checks.scalar(name, "label_smoothing", label_smoothing, 0, 1)
    c = _checks.scalar(name, "z_loss", z_loss, 0)
    return (
        None if _checks.unused(smoothing) else smoothing,
        None if _checks.unused(c) else c,
    )


def number(x: Any, dtype) -> Array | None:
    """Converts a number to an array of that dtype; None stays None."""
    return None if x is None else jnp.asarray(x, dtype)


def class_weights_of(name: str, weights, classes: int) -> Array | None:
    """Checks class weights, ``[classes]`` or None."""
    if weights is None:
        return None
    weights = _checks.reals(name, "class_weights", weights)
    _checks.shape(name, "class_weights", weights, (classes,), "one for each class")
    return weights
