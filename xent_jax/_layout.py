"""Converts the caller's axes and masks to the layout ``[..., classes]``, and back."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct

from xent_jax import _checks, _shards
from xent_jax._closed_form import closed_form
from xent_jax._modes import Mode
from xent_jax._shards import WHOLE, Shards
from xent_jax._types import AxisName


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layout:
    """Says which axes are class axes, and which classes and examples take part."""

    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})  # of the logits
    axes: tuple[int, ...] = dataclasses.field(metadata={"static": True})  # the class axes
    shards: Shards = dataclasses.field(default=WHOLE, metadata={"static": True})  # of the classes
    where: Array | None = None  # the caller's mask, of examples or of classes
    kept: Array | None = None  # booleans [...]: a further mask of the examples

    @property
    def size(self) -> int:
        """The number of classes in one shard."""
        return math.prod(self.shape[a] for a in self.axes)

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape of an array with one number per example."""
        return tuple(n for a, n in enumerate(self.shape) if a not in self.axes)

    def per_class(self, x: Array) -> Array:
        """Reshapes ``[k]`` to the rank of ``[..., k]``."""
        return x.reshape((1,) * len(self.batch) + x.shape)

    def classes_last(self, x: Array) -> Array:
        """Moves the classes last, ``[..., k]``; other dimensions of size 1 keep that size."""
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
        """Reverses ``classes_last`` for an array with the shape of the logits."""
        rest = tuple(a for a in range(len(self.shape)) if a not in self.axes)
        order = rest + self.axes
        spec = _shards.explicit(x)
        if len(self.axes) > 1:
            spec = spec[:-1] + tuple(_shards.explicit(logits)[a] for a in self.axes)
        x = _shards.reshape(x, tuple(self.shape[a] for a in order), spec)
        return x.transpose(tuple(order.index(a) for a in range(len(order))))

    @property
    def class_mask(self) -> Array | None:
        """Booleans ``[..., k]``: the classes that take part; None for all."""
        return self._masks[0]

    @property
    def example_mask(self) -> Array | None:
        """Booleans ``[...]``: the examples that take part; None for all."""
        return self._masks[1]

    @functools.cached_property
    def _masks(self) -> tuple[Array | None, Array | None]:
        classes, examples = self._read(self.where)
        if self.kept is not None:
            kept, examples = _shards.together(self.kept, examples)
            examples = kept if examples is None else examples & kept
        return classes, examples

    def _read(self, where: Array | None) -> tuple[Array | None, Array | None]:
        """Splits the caller's mask into a mask of classes and a mask of examples."""
        if where is None:
            return None, None
        if where.ndim != len(self.shape):
            return None, jnp.broadcast_to(where, self.batch)
        one_class = self.shards and self.size == 1  # other shards hold more classes
        if all(where.shape[a] == 1 for a in self.axes) and not one_class:
            return None, jnp.broadcast_to(jnp.squeeze(where, self.axes), self.batch)
        classes = self.classes_last(where)
        some = self.shards.any(jnp.any(classes, axis=-1))
        return classes, jnp.broadcast_to(some, self.batch)

    def logits(self, mode: Mode, z: Array) -> Array:
        """Returns ``[..., k]``: -inf at masked classes, and 0 in the rows of masked examples."""
        z = self.classes_last(z)
        if self.class_mask is None and self.example_mask is None:
            return z
        return _masked(mode, z, self.class_mask, self.example_mask, shards=self.shards)

    def clear(self, x: Array, fill: float) -> Array:
        """Returns ``x``, ``[..., k]``, with ``fill`` at masked examples and classes."""
        return _clear(x, self.class_mask, self.example_mask, fill)

    def without(self, examples: Array) -> "Layout":
        """Returns the layout that also masks the examples where ``examples`` is false."""
        return dataclasses.replace(self, kept=examples)


def layout_of(
    function: str,
    logits: Array | ShapeDtypeStruct,
    axis,
    where,
    name: str = "logits",
    axis_name: AxisName | Shards | None = None,
) -> Layout:
    """Checks ``axis`` and ``where`` against the logits, and returns their layout.

    ``where`` has the shape of the batch and masks examples, or it broadcasts to the logits and
    masks classes. An example whose classes are all masked is masked too.
    """
    axes = _checks.class_axes(function, axis, logits, name)
    layout = Layout(logits.shape, axes, _checks.axis_name(function, axis_name, axes))
    if where is None:
        return layout
    where = _checks.mask(function, "where", where)
    if where.ndim == logits.ndim:
        _checks.broadcastable(function, "where", where, logits.shape, name)
    else:
        _checks.broadcastable(
            function, "where", where, layout.batch, "the examples",
            f"A mask of classes needs all {logits.ndim} dimensions of {name}.",
        )  # fmt: skip
    return dataclasses.replace(layout, where=where)


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
        # A masked NaN must be replaced before the loss is computed: in the backward pass, NaN times
        # a cotangent of zero would be NaN again.
        z = jnp.where(examples[..., None], z, jnp.zeros((), z.dtype))
    return z


# dz = g where both masks hold, else 0. JAX's own derivative would keep the masks as residuals of
# the size of the logits.
def _masked_backward(_, args, g: Array):
    _, classes, examples = args
    return _clear(g, classes, examples, 0.0), None, None


_masked = closed_form(lambda *_: None, _masked_value, _masked_backward, unread=(0,))
