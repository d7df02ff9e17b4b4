"""The checked arguments of a linear head, with the tokens and classes that take part."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xent_jax import _checks, _engine, _loss_function, _shards
from xent_jax._chunks import Chunks, chunks_for
from xent_jax._engine import Engine
from xent_jax._labels import equal, in_int32
from xent_jax._linear_layer import LinearLayer
from xent_jax._modes import Mode
from xent_jax._operands import Operands
from xent_jax._shards import WHOLE, Shards
from xent_jax._types import AxisName, KernelAxes, Reduction, accumulator

SOFT = "For one-hot or soft labels use with_linear_head(softmax_cross_entropy). "


def _static() -> Any:
    return dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """Checked arguments of a head."""

    inputs: Array  # [*batch, D]
    kernel: Array  # [D, V] or [V, D]
    bias: Array | None  # [V]
    targets: tuple[Array, ...]  # [*batch, ...]: the leaves of the tree
    mask: Array | None  # [*batch] booleans: the tokens that take part
    weights: Array | None  # [*batch]: the factors of their losses
    name: str = _static()  # the function that was called
    mode: Mode = _static()
    tree: Any = _static()  # the tree structure of the targets
    axes: KernelAxes = _static()
    chunks: Chunks = _static()
    factors: Any = _static()  # the dtype of the factors of all products
    shards: Shards = _static()  # the shards of the classes

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape of the tokens."""
        return self.inputs.shape[:-1]

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return math.prod(self.batch)

    @property
    def classes(self) -> int:
        """The number of classes, of one shard."""
        return self.kernel.shape[self.axes.index("V")]

    @property
    def dtype(self) -> Any:
        """The dtype of logits and losses."""
        return accumulator(self.factors)

    @property
    def rows(self) -> tuple[Array, ...]:
        """The arrays with an entry for each token, the weights last."""
        return self.inputs, *self.targets, *(() if self.weights is None else (self.weights,))

    def replace(self, **fields: Any) -> "Problem":
        """Returns the same with other fields."""
        return dataclasses.replace(self, **fields)

    def typed(self) -> "Problem":
        """Returns the same, each array marked as varying over the mesh axes of its cotangent."""
        shared = self.inputs, self.kernel, self.bias
        by_token = self.targets, self.mask, self.weights
        classes = self.shards.names
        tokens = _shards.varying(shared, by_token) - classes
        inputs, kernel, bias = _shards.vary(shared, tokens | classes)
        targets, mask, weights = _shards.vary(by_token, tokens)
        arrays = {"inputs": inputs, "kernel": kernel, "bias": bias}
        return self.replace(**arrays, targets=targets, mask=mask, weights=weights)

    def number(self, option: Any) -> Array | None:
        """Returns a number that all tokens share, with the mesh axes of its cotangent.

        The cotangent is then summed over the mesh axes of the tokens once, not for each chunk.
        """
        return None if option is None else self.shared(jnp.asarray(option, self.dtype))

    def shared(self, option: Array) -> Array:
        """Returns an array that all tokens share, with the mesh axes of its cotangent."""
        tokens = _shards.varying(self.inputs) - self.shards.names
        return _shards.vary(option, tokens)

    def num_classes(self, value: Any) -> int:
        """Returns the number of the kernel's classes without padding; None means all of them."""
        every = self.classes * self.shards.count
        return every if value is None else _checks.num_classes(self.name, value, every)

    def without(self, tokens: Array) -> "Problem":
        """Returns the same with only the tokens where ``tokens`` is true."""
        return self.replace(mask=tokens if self.mask is None else self.mask & tokens)

    def without_padding(self, num_classes: int | None) -> "Problem":
        """Returns the same with zeros in the columns of the kernel that are padding.

        A NaN there would otherwise reach the gradient of the inputs, because 0 * NaN is NaN.
        """
        if num_classes is None or num_classes == self.classes * self.shards.count:
            return self
        mask = class_mask(self.classes, num_classes, self.shards)
        mask = mask if self.axes == "DV" else mask.T
        return self.replace(kernel=jnp.where(mask, self.kernel, jnp.zeros_like(self.kernel)))

    def engine(
        self, loss: Callable[..., tuple[Any, Any]], closed_over: tuple[Any, ...]
    ) -> tuple[Engine, Operands]:
        """Returns the engine of a loss, as ``LinearLayer`` takes it, and its operands."""
        layer = LinearLayer(loss, self.axes, self.chunks.pieces, self.factors, self.shards)
        engine = Engine(layer, self.mode, self.batch, self.chunks, self.weights is not None)
        return engine, Operands((self.kernel, self.bias, *closed_over), self.rows)

    def hoisted(
        self, loss: Callable[..., tuple[Any, Any]]
    ) -> tuple[Callable[..., tuple[Any, Any]], tuple[Array, ...]]:
        """Returns a loss as ``LinearLayer`` takes it, and the arrays that it closes over.

        The given loss takes logits and the tree of targets. Raises ValueError unless it returns
        one number for each token.
        """
        size = self.chunks.size

        def of_chunk(shape: tuple[int, ...], dtype: Any, like: Array) -> jax.ShapeDtypeStruct:
            return _shards.shape_of((size, *shape), dtype, _shards.varying(like))

        def flat(z: Array, *targets: Array) -> tuple[Array, Any]:
            losses, aux = loss(z, *jax.tree.unflatten(self.tree, targets))
            _loss_function.check_losses(
                self.name, f"logits {_checks.describe(z)}", size, losses, aux
            )
            return losses, aux

        z = of_chunk((self.classes,), self.dtype, self.inputs)
        targets = [of_chunk(a.shape[len(self.batch) :], a.dtype, a) for a in self.targets]
        return _loss_function.hoisted(flat, z, *targets)

    def reduced(
        self,
        loss: Callable[..., tuple[Array, Any]],
        closed_over: tuple[Any, ...],
        reduction: Reduction,
        by_label: Array | None = None,
        batch_shards: Shards = WHOLE,
    ) -> tuple[Array, Any]:
        """Returns the reduction of the losses, and the auxiliaries ``[*batch, ...]``."""
        weighted = self.weights is not None

        def weighed(closed_over: tuple, z: Array, *rows: Array) -> tuple[Array, Any]:
            targets, weights = (rows[:-1], rows[-1]) if weighted else (rows, None)
            return _loss_function.weighed(loss(closed_over, z, *targets), weights)

        engine, operands = self.engine(weighed, closed_over)
        return _engine.reduced(
            engine, operands, self.mask, reduction, self.dtype, by_label, batch_shards
        )


def checked(
    name: str,
    mode: Mode,
    inputs,
    kernel,
    targets,
    bias,
    where,
    axes,
    max_logits_bytes: int | None,
    dtype,
    axis_name: AxisName | None = None,
    weights=None,
    ignoring: bool = False,
) -> Problem:
    """Returns the checked arguments that all heads share.

    ``ignoring`` is whether there is an ignore_index.
    """
    axes = _checks.kernel_axes(name, axes)
    shards = _checks.axis_name(name, axis_name)
    inputs, kernel = _layer(name, inputs, kernel, axes)
    dtype = _checks.product_dtype(name, dtype) or _promoted(name, inputs, kernel)
    batch, classes = inputs.shape[:-1], kernel.shape[axes.index("V")]
    if bias is not None:
        bias = _checks.floats(name, "bias", bias)
        _checks.shape(name, "bias", bias, (classes,), "one for each class")
    if where is not None:
        where = tokens_of(name, where, batch)
    if weights is not None:
        weights = token_weights(name, weights, batch)
    leaves, tree = _targets(name, targets, batch)
    masked = where is not None or weights is not None or ignoring
    sizes = math.prod(batch), inputs.shape[-1], classes
    chunks = chunks_for(name, *sizes, max_logits_bytes, masked)
    arrays = inputs, kernel, bias, tuple(leaves), where, weights
    return Problem(*arrays, name, mode, tree, axes, chunks, dtype, shards)


def _layer(name: str, inputs, kernel, axes: KernelAxes) -> tuple[Array, Array]:
    """Checks that inputs and kernel fit each other, and returns them."""
    inputs, kernel = (
        _checks.floats(name, "inputs", inputs),
        _checks.floats(name, "kernel", kernel),
    )
    width, classes = axes.index("D"), axes.index("V")
    if inputs.ndim == 0 or kernel.ndim != 2 or inputs.shape[-1] != kernel.shape[width]:
        wanted = "[D, classes]" if axes == "DV" else "[classes, D]"
        transposed = kernel.ndim == 2 and inputs.shape[-1:] == kernel.shape[classes:][:1]
        raise ValueError(
            f"{name}: inputs must have the shape [..., D] and kernel {wanted}, got "
            f"{_checks.describe(inputs)} and {_checks.describe(kernel)}."
            + (f" Give kernel.T, or kernel_axes={axes[::-1]!r}." if transposed else "")
        )
    if kernel.shape[classes] == 0:
        raise ValueError(
            f"{name}: kernel must have at least one class, got {_checks.describe(kernel)}."
        )
    for which, array in {"inputs": inputs, "kernel": kernel}.items():
        if any(entry is not None for entry in _shards.explicit(array)):
            raise ValueError(
                f"{name}: {which} must be whole, or a shard's inside jax.shard_map, got "
                f"{jax.typeof(array)}. Pass sharded arrays to shard_linear_head."
            )
    return inputs, kernel


def _promoted(name: str, inputs: Array, kernel: Array) -> Any:
    """Returns the dtype to which JAX promotes both.

    Raises TypeError where there is none: for two of float8, or for any two if JAX is strict.
    """
    try:
        return jnp.promote_types(inputs.dtype, kernel.dtype)
    except ValueError:
        sizes = inputs.dtype.itemsize, kernel.dtype.itemsize
        if sizes[0] == sizes[1]:
            dtype = "bfloat16" if sizes[0] == 1 else "float32"
            hint = f"both with .astype(jnp.{dtype})"
        else:
            narrow, wide = ("inputs", kernel) if sizes[0] < sizes[1] else ("kernel", inputs)
            hint = f"one of them, for example with {narrow}.astype(jnp.{wide.dtype})"
        raise TypeError(
            f"{name}: inputs and kernel must have dtypes that JAX promotes to one, got "
            f"{_checks.describe(inputs)} and {_checks.describe(kernel)}. Convert {hint}, or give "
            f"the dtype in which they are multiplied as dtype=."
        ) from None


def tokens_of(name: str, where, batch: tuple[int, ...]) -> Array:
    """Checks a mask, and returns it with an entry for each token."""
    where = _checks.mask(name, "where", where)
    if where.ndim == len(batch) + 1 and where.shape[-1] == 1:
        where = where.squeeze(-1)
    hint = (
        "It cannot mask classes: num_classes leaves out those that pad the kernel, and the loss "
        "that with_linear_head is given can mask any."
    )
    where = _checks.broadcastable(name, "where", where, batch, "the tokens", hint)
    return jnp.broadcast_to(where, batch)


def token_weights(name: str, weights, batch: tuple[int, ...]) -> Array:
    """Checks weights, and returns them with an entry for each token."""
    return jnp.broadcast_to(_checks.weights(name, weights, batch), batch)


def _targets(name: str, targets: Any, batch: tuple[int, ...]) -> tuple[list[Array], Any]:
    """Checks that each leaf has an entry per token; returns the leaves and the tree."""
    leaves, tree = jax.tree.flatten(targets)
    leaves = [_checks.array(name, "targets", t) for t in leaves]
    what = "targets" if name == "with_linear_head" else "labels"
    for leaf in leaves:
        if leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"{name}: {what} must have one entry for each token, {list(batch)}, got "
                f"{_checks.describe(leaf)}."
            )
    return leaves, tree


IGNORED = -2
"""What ``numbered`` makes of an ignored label; one that is out of range becomes -1."""


def numbered(labels: Array, classes: int, ignored: int | None = None) -> Array:
    """Returns labels in int32: a class, -1 if out of range, or ``IGNORED``."""
    y = in_int32(labels)
    y = jnp.where((y >= 0) & (y < classes), y, -1)
    return y if ignored is None else jnp.where(equal(labels, ignored), IGNORED, y)


def class_mask(classes: int, num_classes: int, shards: Shards) -> Array:
    """Returns booleans ``[1, classes]``, false for the shard's classes that are padding."""
    first = shards.first_class(classes)
    return (first + jnp.arange(classes) < num_classes)[None]


def without_padding(z: Array, num_classes: int | None, shards: Shards) -> Array:
    """Returns the logits ``[tokens, classes]``, -inf at the classes that pad the kernel."""
    if num_classes is None:
        return z
    return jnp.where(class_mask(z.shape[-1], num_classes, shards), z, -jnp.inf)
