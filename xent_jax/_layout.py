"""From the caller's axes and masks to ``[..., classes]``, and back."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct

from xent_jax import _checks, _shards
from xent_jax._closed_form import closed_form
from xent_jax._types import AxisName


class Layout(NamedTuple):
    """Where the classes are, and which of them and of the examples take part."""

    shape: tuple[int, ...]  # of the logits, as they came
    axes: tuple[int, ...]  # the class axes
    classes: Array | None  # booleans [..., k]: the classes left in
    examples: Array | None  # booleans [...]: the examples left in
    axis_name: AxisName | None = None  # over whose shards the classes are divided

    @property
    def size(self) -> int:
        """The number of classes, of one shard."""
        return math.prod(self.shape[a] for a in self.axes)

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape of one number per example."""
        return tuple(n for a, n in enumerate(self.shape) if a not in self.axes)

    def per_class(self, x: Array) -> Array:
        """``[k]`` at the rank of ``[..., k]``."""
        return x.reshape((1,) * len(self.batch) + x.shape)

    def classes_last(self, x: Array) -> Array:
        """``[..., k]``; dimensions of size 1 that are not classes stay so."""
        if self.axes == (len(self.shape) - 1,):
            k = self.shape[-1]
            return x if x.shape[-1] == k else jnp.broadcast_to(x, x.shape[:-1] + (k,))
        full = tuple(self.shape[a] if a in self.axes else n for a, n in enumerate(x.shape))
        rest = tuple(a for a in range(x.ndim) if a not in self.axes)
        x = jnp.broadcast_to(x, full).transpose(rest + self.axes)
        spec = _shards.explicit(x)
        spec = spec[: len(rest)] + (_shards.merged(spec[len(rest) :]),)
        return _shards.reshape(x, x.shape[: len(rest)] + (self.size,), spec)

    def restore(self, x: Array, logits: Array) -> Array:
        """``classes_last`` undone, for an array with a number for each of the logits."""
        rest = tuple(a for a in range(len(self.shape)) if a not in self.axes)
        order = rest + self.axes
        spec = _shards.explicit(x)
        if len(self.axes) > 1:
            spec = spec[:-1] + tuple(_shards.explicit(logits)[a] for a in self.axes)
        x = _shards.reshape(x, tuple(self.shape[a] for a in order), spec)
        return x.transpose(tuple(order.index(a) for a in range(len(order))))

    def logits(self, z: Array) -> Array:
        """Classes last, -inf where a class is out, 0 all over where an example is."""
        z = self.classes_last(z)
        if self.classes is None and self.examples is None:
            return z
        return _masked(z, self.classes, self.examples, axis_name=self.axis_name)

    def clear(self, x: Array, fill: float) -> Array:
        """``[..., k]`` with ``fill`` at the examples and classes that are out."""
        return _clear(x, self.classes, self.examples, fill)

    def without(self, examples: Array) -> "Layout":
        """The same with more examples left out: those where ``examples`` is false."""
        if self.examples is not None:
            examples, left = _shards.together(examples, self.examples)
            examples = left & examples
        return self._replace(examples=examples)


def layout(
    function: str,
    logits: Array | ShapeDtypeStruct,
    axis,
    where,
    name: str = "logits",
    axis_name: AxisName | None = None,
) -> Layout:
    """Checks ``axis`` and ``where`` against the logits and reads them.

    ``where`` has the shape of the examples, or broadcasts to the logits and then masks
    classes; an example with no class left is itself out.
    """
    axes = _checks.class_axes(function, axis, logits, name)
    _checks.axis_name(function, axis_name, axes)
    plain = Layout(logits.shape, axes, None, None, axis_name)
    if where is None:
        return plain
    where = _checks.mask(function, "where", where)
    if where.ndim != logits.ndim:
        _checks.broadcastable(
            function, "where", where, plain.batch, "the examples",
            f"To mask classes give it all {logits.ndim} dimensions of {name}.",
        )  # fmt: skip
        return plain._replace(examples=jnp.broadcast_to(where, plain.batch))
    _checks.broadcastable(function, "where", where, logits.shape, name)
    one_class = axis_name is not None and plain.size == 1  # of a shard, and others may be left
    if all(where.shape[a] == 1 for a in axes) and not one_class:
        return plain._replace(examples=jnp.broadcast_to(jnp.squeeze(where, axes), plain.batch))
    classes = plain.classes_last(where)
    left = _shards.anywhere(jnp.any(classes, axis=-1), axis_name)
    examples = jnp.broadcast_to(left, plain.batch)
    return plain._replace(classes=classes, examples=examples)


def _clear(x: Array, classes: Array | None, examples: Array | None, fill: float) -> Array:
    x, classes, examples = _shards.together(x, classes, examples)
    for mask in (classes, None if examples is None else examples[..., None]):
        if mask is not None:
            x = jnp.where(mask, x, jnp.asarray(fill, x.dtype))
    return x


def _masked_value(_, z: Array, classes: Array | None, examples: Array | None) -> Array:
    if classes is not None:
        z = jnp.where(classes, z, jnp.asarray(-jnp.inf, z.dtype))
    if examples is not None:
        # Safe before the kernel: a NaN that is out, times a cotangent of zero, would be
        # NaN again.
        z = jnp.where(examples[..., None], z, jnp.zeros((), z.dtype))
    return z


# dz = g where both masks hold, else 0. In closed form, since JAX's own would keep the
# masks at the size of the logits.
def _masked_backward(_, args, g: Array):
    _, classes, examples = args
    return _clear(g, classes, examples, 0.0), None, None


_masked = closed_form(lambda *_: None, _masked_value, _masked_backward, unread=(0,))
