"""Losses of a linear layer's logits, from its inputs and kernel: see ``_head``."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float, Int

from xent_jax import _checks, _shards
from xent_jax._chunks import chunk_size, pieces_of
from xent_jax._closed_form import in_forward_mode
from xent_jax._cross_entropy import (
    class_weights_of,
    smoothing_and_z_loss,
    softmax_cross_entropy_with_integer_labels,
    weighed,
)
from xent_jax._head import Head, Operands
from xent_jax._once import compiled_once
from xent_jax._reduction import divisor
from xent_jax._rows import accumulator
from xent_jax._softcap import softcap
from xent_jax._types import AxisName, KernelAxes, Reduction


def with_linear_head(
    loss: Callable[..., Array],
    *,
    reduction: Reduction = "mean",
    logit_transform: Callable[[Array], Array] | None = None,
    kernel_axes: KernelAxes = "DV",
    max_logits_bytes: int | None = None,
    axis_name: AxisName | None = None,
    batch_axis_name: AxisName | None = None,
) -> Callable[..., Array]:
    """Turns a loss of logits into one of inputs and a kernel, that never holds all logits.

    ``head(inputs, kernel, *targets, bias=b)`` is the reduction of
    ``loss(logit_transform(inputs @ kernel + b), *targets)``, taken for a chunk of tokens at
    a time, forward and backward. Call it under ``jax.jit``: what ``loss`` reads may have changed,
    so that eagerly each call is compiled anew, and JAX keeps what it has compiled.

    Args:
        loss: ``(logits [tokens, classes], *targets) -> [tokens]``, a loss for each token that
            depends on no other token: any of this library with ``reduction="none"``, or
            your own. Arrays that it closes over get their gradients too.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the tokens left in.
        logit_transform: applied to the logits first, such as a soft cap.
        kernel_axes: ``"VD"`` for a kernel ``[classes, D]``, such as a tied embedding as it
            lies; ``embedding.T`` would be copied.
        max_logits_bytes: what a chunk's logits and their gradient may take, in float32; by
            default 128 MiB, with at least 512 tokens in a chunk: ``linear_head_plan``.
        axis_name: inside ``jax.shard_map`` the mesh axis, or axes, over which the classes are
            divided: kernel and bias are this shard's, and so are the logits that ``loss``
            gets, which must know the axis too.
        batch_axis_name: the mesh axes over which the tokens are divided: a sum or mean is
            then over all of them.

    Returns:
        ``head(inputs, kernel, *targets, bias=None, where=None)``, of inputs
        ``[*batch, D]``, a kernel ``[D, classes]``, targets (trees of arrays
        ``[*batch, ...]``), a bias ``[classes]``, and booleans ``[*batch]``: the tokens that
        take part. Its value has the dtype of the losses: logits, and so losses of this
        library, are float32 for half precision. Its gradients have the dtypes of what they
        are gradients of, and are summed over the tokens of a device in float32.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, option or range is.

    Gradient: ``dz W'`` to the inputs, ``x' dz`` to the kernel, ``sum dz`` to the bias, with
    ``dz`` the loss's own at a token's logits. With a sum or mean they are taken in the
    forward. Proof: ``with_linear_head``. Source: Hsu et al. (2024), "Liger
    Kernel"; Wijmans et al. (2024), "Cut Your Losses".

    Distillation, from the teacher's ten likeliest tokens:

    >>> def distill(logits, ids, p):
    ...     given = jnp.take_along_axis(jax.nn.log_softmax(logits), ids, -1)
    ...     return -jnp.sum(p * given, -1)
    >>> head = with_linear_head(distill)
    >>> x, kernel = jnp.ones((4, 8)), jnp.zeros((8, 100))
    >>> ids, p = jnp.tile(jnp.arange(10), (4, 1)), jnp.full((4, 10), 0.1)
    >>> round(float(head(x, kernel, ids, p)), 4)
    4.6052
    """
    name = "with_linear_head"
    if not callable(loss):
        raise TypeError(f"{name}: loss must be a function of logits, got {_checks.shown(loss)}.")
    if logit_transform is not None and not callable(logit_transform):
        raise TypeError(
            f"{name}: logit_transform must be a function of logits, such as "
            f"functools.partial(softcap, cap=30.0), got {_checks.shown(logit_transform)}."
        )
    reduction = _checks.reduction(name, reduction)
    axes = _checks.kernel_axes(name, kernel_axes)

    def head(inputs, kernel, *targets, bias=None, where=None):
        problem = checked(name, inputs, kernel, targets, bias, where, axes, axis_name)
        _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
        size = chunk_size(name, problem.tokens, problem.classes, max_logits_bytes)
        of_logits = _transformed(loss, logit_transform)
        return reduced(problem, of_logits, reduction, size, None, batch_axis_name)

    return head


@compiled_once
def linear_softmax_cross_entropy(
    inputs: Float[ArrayLike, "*batch width"],
    kernel: Float[ArrayLike, "width classes"],
    labels: Int[ArrayLike, "*batch"],
    bias: Float[ArrayLike, " classes"] | None = None,
    where: Bool[ArrayLike, "*batch"] | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float | Float[ArrayLike, ""] = 0.0,
    z_loss: float | Float[ArrayLike, ""] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    logit_softcap: float | Float[ArrayLike, ""] | None = None,
    num_classes: int | None = None,
    reduction: Reduction = "mean",
    kernel_axes: KernelAxes = "DV",
    max_logits_bytes: int | None = None,
    axis_name: AxisName | None = None,
    batch_axis_name: AxisName | None = None,
) -> Float[Shaped, "..."]:
    """Softmax cross-entropy of ``inputs @ kernel + bias``, which is never all held.

    Args:
        inputs: ``[*batch, D]``, floating: what a model's last layer gets.
        kernel: ``[D, classes]``, floating.
        labels: y, ``[*batch]``, integers in [0, classes).
        bias: ``[classes]``, floating.
        where: booleans ``[*batch]``: the tokens that take part.
        ignore_index: a label that leaves its token out, such as -100.
        label_smoothing, z_loss, class_weights: as for
            ``softmax_cross_entropy_with_integer_labels``.
        logit_softcap: c, above 0; the logits are ``c tanh((x W + b) / c)``.
        num_classes: how many of the kernel's classes there are; those after them pad it, and
            take no part.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the tokens left in, with class
            weights over the sum of their labels' weights.
        kernel_axes: ``"VD"`` for a kernel ``[classes, D]``, such as a tied embedding as it
            lies; ``embedding.T`` would be copied.
        max_logits_bytes: what a chunk's logits and their gradient may take, in float32; by
            default 128 MiB, with at least 512 tokens in a chunk: ``linear_head_plan``.
        axis_name: inside ``jax.shard_map`` the mesh axis, or axes, over which the classes are
            divided: kernel, bias and class_weights are this shard's, labels count over all.
            ``shard_linear_head`` writes the ``shard_map``.
        batch_axis_name: the mesh axes over which the tokens are divided: a sum or mean is
            then over all of them.

    Returns:
        The loss in nats, a scalar, or ``[*batch]``; float32 for half precision. 0 for a
        token that is out, whatever its input holds. NaN, in value and gradient, for a label
        out of range, as in the loss of logits.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, option or range is.

    Gradient: ``dz W'`` to the inputs, ``x' dz`` to the kernel and ``sum dz`` to the bias,
    for the ``dz`` of ``softmax_cross_entropy_with_integer_labels``; to the weights, the
    smoothing, the z-loss and the cap too. Proof: ``linear_softmax_cross_entropy``. Source: as
    ``with_linear_head``.

    >>> x, kernel = jnp.ones((3, 8)), jnp.zeros((8, 100))
    >>> round(float(linear_softmax_cross_entropy(x, kernel, jnp.array([0, 5, 99]))), 4)
    4.6052
    """
    name = "linear_softmax_cross_entropy"
    labels = _checks.integers(name, "labels", labels, SOFT)
    ignored = _checks.ignore_index(name, ignore_index, labels.dtype)
    left = None if ignored is None else labels != ignored
    if num_classes is not None:
        num_classes = _checks.num_classes(name, num_classes)
        labels = unpadded(labels, num_classes, None)
    problem = checked(name, inputs, kernel, (labels,), bias, where, kernel_axes, axis_name)
    _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    if left is not None:
        problem = problem.without(left)
    dtype = accumulator(problem.operands.kernel.dtype)
    smoothing_and_z_loss(name, label_smoothing, z_loss, dtype)
    if class_weights is not None:
        class_weights = class_weights_of(name, class_weights, problem.classes, dtype)
    transform = None
    if logit_softcap is not None:
        cap = _checks.scalar(name, "logit_softcap", logit_softcap, 0, above=True)
        transform = functools.partial(softcap, cap=problem.typed(cap))
    loss: Callable[..., Array] = functools.partial(
        softmax_cross_entropy_with_integer_labels,
        label_smoothing=problem.typed(label_smoothing),
        z_loss=problem.typed(z_loss),
        class_weights=problem.typed(class_weights),
        axis_name=axis_name,
    )
    if num_classes is not None:
        problem.check_num_classes(num_classes)
        loss = _within(loss, functools.partial(there, problem.classes, num_classes, axis_name))
    weight = None
    if class_weights is not None:
        _, weight = weighed(labels, problem.classes, class_weights, problem.left, dtype, axis_name)
    size = chunk_size(name, problem.tokens, problem.classes, max_logits_bytes)
    reduction = _checks.reduction(name, reduction)
    of_logits = _transformed(loss, transform)
    return reduced(problem, of_logits, reduction, size, weight, batch_axis_name)


SOFT = "For one-hot or soft labels use with_linear_head(softmax_cross_entropy). "


class Problem(NamedTuple):
    """Checked arguments of a head."""

    name: str  # of the function that was called
    operands: Operands  # the targets as leaves, nothing closed over yet
    tree: Any  # of the targets
    left: Array | None  # [*batch] booleans: the tokens that take part
    axes: KernelAxes
    axis_name: AxisName | None  # over whose shards the classes are divided

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape of the tokens."""
        return self.operands.inputs.shape[:-1]

    @property
    def tokens(self) -> int:
        """How many there are."""
        return math.prod(self.batch)

    @property
    def classes(self) -> int:
        """How many there are, of one shard."""
        return self.operands.kernel.shape[self.axes.index("V")]

    @property
    def pieces(self) -> int:
        """Of the classes, in which a CPU sums the kernel's gradient."""
        return pieces_of(self.operands.inputs.shape[-1], self.classes)

    def head(self, loss: Callable[..., Any], size: int) -> Head:
        """A loss of logits, for chunks of that size."""
        return Head(loss, self.batch, size, self.axes, self.pieces, self.axis_name)

    def typed(self, option: Any) -> Any:
        """What all tokens share, as differing over their mesh axes, as its cotangents will.

        They are then summed over those axes once, not for each chunk.
        """
        return _shards.vary(option, self.token_axes) if isinstance(option, Array) else option

    def check_num_classes(self, value: Any) -> None:
        """That there are as many."""
        _checks.num_classes(self.name, value, self.classes * _shards.count(self.axis_name))

    @property
    def token_axes(self) -> frozenset[str]:
        """The mesh axes over which the tokens are known to differ."""
        return _shards.varying(self.operands.inputs) - _shards.names(self.axis_name)

    def without(self, tokens: Array) -> "Problem":
        """Only the tokens where ``tokens`` is true."""
        return self._replace(left=tokens if self.left is None else self.left & tokens)


def checked(
    name: str, inputs, kernel, targets, bias, where, axes, axis_name: AxisName | None = None
) -> Problem:
    axes = _checks.kernel_axes(name, axes)
    _checks.axis_name(name, axis_name)
    inputs, kernel = (
        _checks.floats(name, "inputs", inputs),
        _checks.floats(name, "kernel", kernel),
    )
    width, classes = axes.index("D"), axes.index("V")
    if inputs.ndim == 0 or kernel.ndim != 2 or inputs.shape[-1] != kernel.shape[width]:
        lies = "[D, classes]" if axes == "DV" else "[classes, D]"
        transposed = kernel.ndim == 2 and inputs.shape[-1:] == kernel.shape[classes:][:1]
        raise ValueError(
            f"{name}: inputs must have the shape [..., D] and kernel {lies}, got "
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
                f"{jax.typeof(array)}. Divided arrays go through shard_linear_head."
            )
    batch = inputs.shape[:-1]
    if bias is not None:
        bias = _checks.floats(name, "bias", bias)
        _checks.shape(name, "bias", bias, (kernel.shape[classes],), "one for each class")
    if where is not None:
        where = _checks.mask(name, "where", where)
        _checks.shape(name, "where", where, batch, "one for each token")
    leaves, tree = jax.tree.flatten(targets)
    leaves = [_checks.array(name, "targets", t) for t in leaves]
    what = "targets" if name == "with_linear_head" else "labels"
    for leaf in leaves:
        if leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"{name}: {what} must have one entry for each token, {list(batch)}, got "
                f"{_checks.describe(leaf)}."
            )
    classes = _shards.names(axis_name)
    tokens = _shards.varying(inputs, kernel, bias, leaves, where) - classes
    inputs, kernel, bias = _shards.vary((inputs, kernel, bias), tokens | classes)
    operands = Operands(inputs, kernel, bias, tuple(_shards.vary(leaves, tokens)), ())
    return Problem(name, operands, tree, _shards.vary(where, tokens), axes, axis_name)


def unpadded(labels: Array, num_classes: int, ignored: int | None) -> Array:
    """Labels in int32, out of every range where they are out of this one."""
    bad = -2 if ignored == -1 else -1
    there = (labels >= 0) & (labels < num_classes)
    if ignored is not None:
        there = there | (labels == ignored)
    return jnp.where(there, labels.astype(jnp.int32), bad)


def there(classes: int, num_classes: int, axis_name: AxisName | None) -> Array:
    """[1, classes] booleans: which of the shard's classes are no padding."""
    first = _shards.first_class(classes, axis_name)
    return (first + jnp.arange(classes) < num_classes)[None]


def _within(loss: Callable[..., Array], left: Callable[[], Array]) -> Callable[..., Array]:
    """Of the classes that are there; asked anew by each trace, as a custom_vjp wants it."""
    return lambda logits, *targets: loss(logits, *targets, where=left())


def _transformed(loss: Callable[..., Array], transform: Callable[[Array], Array] | None):
    if transform is None:
        return loss
    return lambda logits, *targets: loss(transform(logits), *targets)


def reduced(
    problem: Problem,
    loss: Callable[..., Array],
    reduction: Reduction,
    size: int,
    weights: Array | None,
    batch_axis_name: AxisName | None,
) -> Array:
    """The reduction of the losses; of a mean, ``weights`` are the divisor, or else their number."""
    left = problem.left
    of_chunk, closed_over = _converted(problem, loss, size)
    head = problem.head(of_chunk, size)
    operands = problem.operands._replace(closed_over=closed_over)
    if reduction == "none":
        return head.losses(operands, left)[0]
    dtype = accumulator(jnp.promote_types(operands.inputs.dtype, operands.kernel.dtype))
    scale = jnp.ones((), dtype)
    if reduction == "mean":
        scale = scale / divisor(problem.batch, dtype, left, weights, batch_axis_name)
    if any(problem.token_axes - _shards.varying(c) for c in closed_over):
        # Its gradient is summed over the mesh by JAX at once, and needs the cotangents at once.
        total = scale * jnp.sum(head.losses(operands, left)[0])
    else:
        total = head.total(operands, left, scale)
    return _shards.total(total, batch_axis_name)


def _converted(problem: Problem, loss: Callable[..., Array], size: int):
    """The loss of a chunk's logits, targets and what it closes over, and the latter."""
    inputs, kernel, _, targets, _ = problem.operands
    dtype = accumulator(jnp.promote_types(inputs.dtype, kernel.dtype))

    def of_chunk(shape: tuple[int, ...], dtype: Any, like: Array) -> jax.ShapeDtypeStruct:
        return _shards.shape_of((size, *shape), dtype, _shards.varying(like))

    z = of_chunk((problem.classes,), dtype, inputs)
    rows = [of_chunk(t.shape[len(problem.batch) :], t.dtype, t) for t in targets]

    def flat(z, *leaves):
        return loss(z, *jax.tree.unflatten(problem.tree, leaves))

    out = jax.eval_shape(flat, z, *rows)
    if not hasattr(out, "shape") or out.shape != (size,):
        raise ValueError(
            f"{problem.name}: loss must give one number for each token, [{size}] for logits "
            f"{_checks.describe(z)}, got {jax.tree.map(_checks.describe, out)}."
        )
    if in_forward_mode():
        return lambda z, targets, _: (flat(z, *targets), ()), ()
    convert, closed_over = jax.closure_convert(flat, z, *rows)
    return lambda z, targets, closed: (convert(z, *targets, *closed), ()), tuple(closed_over)
