"""Losses of a linear layer's logits, from its inputs and kernel: see ``_head``."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float, Int

from xent_jax import _checks
from xent_jax._chunks import chunk_size, pieces_of
from xent_jax._closed_form import in_forward_mode
from xent_jax._cross_entropy import (
    class_weights_of,
    smoothing_and_z_loss,
    softmax_cross_entropy_with_integer_labels,
    weighed,
)
from xent_jax._head import Head, Operands
from xent_jax._reduction import divisor
from xent_jax._rows import accumulator
from xent_jax._softcap import softcap
from xent_jax._types import KernelAxes, Reduction


def with_linear_head(
    loss: Callable[..., Array],
    *,
    reduction: Reduction = "mean",
    logit_transform: Callable[[Array], Array] | None = None,
    kernel_axes: KernelAxes = "DV",
    max_logits_bytes: int | None = None,
) -> Callable[..., Array]:
    """Turns a loss of logits into one of inputs and a kernel, that never holds all logits.

    ``head(inputs, kernel, *targets, bias=b)`` is the reduction of
    ``loss(logit_transform(inputs @ kernel + b), *targets)``, taken for a chunk of tokens at
    a time, forward and backward.

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

    Returns:
        ``head(inputs, kernel, *targets, bias=None, where=None)``, of inputs
        ``[*batch, D]``, a kernel ``[D, classes]``, targets (trees of arrays
        ``[*batch, ...]``), a bias ``[classes]``, and booleans ``[*batch]``: the tokens that
        take part. Its value has the dtype of the losses: logits, and so losses of this
        library, are float32 for half precision. Its gradients have the dtypes of what they
        are gradients of, and are summed over tokens in float32.

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
        raise TypeError(f"{name}: loss must be a function of logits, got {loss!r}.")
    reduction = _checks.reduction(name, reduction)
    axes = _checks.kernel_axes(name, kernel_axes)

    def head(inputs, kernel, *targets, bias=None, where=None):
        problem = checked(name, inputs, kernel, targets, bias, where, axes)
        size = chunk_size(name, problem.tokens, problem.classes, max_logits_bytes)
        return reduced(problem, _transformed(loss, logit_transform), reduction, size)

    return head


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
    reduction: Reduction = "mean",
    kernel_axes: KernelAxes = "DV",
    max_logits_bytes: int | None = None,
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
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the tokens left in, with class
            weights over the sum of their labels' weights.
        kernel_axes: ``"VD"`` for a kernel ``[classes, D]``, such as a tied embedding as it
            lies; ``embedding.T`` would be copied.
        max_logits_bytes: what a chunk's logits and their gradient may take, in float32; by
            default 128 MiB, with at least 512 tokens in a chunk: ``linear_head_plan``.

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
    labels = _checks.integers(name, "labels", labels)
    problem = checked(name, inputs, kernel, (labels,), bias, where, kernel_axes)
    ignored = _checks.ignore_index(name, ignore_index, labels.dtype)
    if ignored is not None:
        problem = problem.without(labels != ignored)
    dtype = accumulator(problem.operands.kernel.dtype)
    smoothing_and_z_loss(name, label_smoothing, z_loss, dtype)
    if class_weights is not None:
        class_weights = class_weights_of(name, class_weights, problem.classes, dtype)
    transform = None
    if logit_softcap is not None:
        cap = _checks.scalar(name, "logit_softcap", logit_softcap, 0, above=True)
        transform = functools.partial(softcap, cap=cap)
    loss = functools.partial(
        softmax_cross_entropy_with_integer_labels,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        class_weights=class_weights,
    )
    weight = None
    if class_weights is not None:
        _, weight = weighed(labels, problem.classes, class_weights, problem.left, dtype)
    size = chunk_size(name, problem.tokens, problem.classes, max_logits_bytes)
    reduction = _checks.reduction(name, reduction)
    return reduced(problem, _transformed(loss, transform), reduction, size, weight)


class Problem(NamedTuple):
    """Checked arguments of a head."""

    name: str  # of the function that was called
    operands: Operands  # the targets as leaves, nothing closed over yet
    tree: Any  # of the targets
    left: Array | None  # [*batch] booleans: the tokens that take part
    axes: KernelAxes

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
        """How many there are."""
        return self.operands.kernel.shape[self.axes.index("V")]

    @property
    def pieces(self) -> int:
        """Of the classes, in which a CPU sums the kernel's gradient."""
        return pieces_of(self.operands.inputs.shape[-1], self.classes)

    def without(self, tokens: Array) -> "Problem":
        """Only the tokens where ``tokens`` is true."""
        return self._replace(left=tokens if self.left is None else self.left & tokens)


def checked(name: str, inputs, kernel, targets, bias, where, axes) -> Problem:
    axes = _checks.kernel_axes(name, axes)
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
    batch = inputs.shape[:-1]
    if bias is not None:
        bias = _checks.floats(name, "bias", bias)
        _checks.shape(name, "bias", bias, (kernel.shape[classes],), "one for each class")
    if where is not None:
        where = _checks.mask(name, "where", where)
        _checks.shape(name, "where", where, batch, "one for each token")
    leaves, tree = jax.tree.flatten(targets)
    leaves = [_checks.array(name, "targets", t) for t in leaves]
    what = "labels" if name == "linear_softmax_cross_entropy" else "targets"
    for leaf in leaves:
        if leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"{name}: {what} must have one entry for each token, {list(batch)}, got "
                f"{_checks.describe(leaf)}."
            )
    return Problem(name, Operands(inputs, kernel, bias, tuple(leaves), ()), tree, where, axes)


def _transformed(loss: Callable[..., Array], transform: Callable[[Array], Array] | None):
    if transform is None:
        return loss
    return lambda logits, *targets: loss(transform(logits), *targets)


def reduced(
    problem: Problem,
    loss: Callable[..., Array],
    reduction: Reduction,
    size: int,
    weights: Array | None = None,
) -> Array:
    """The reduction of the losses; of a mean, ``weights`` are the divisor, or else their number."""
    operands, left = problem.operands, problem.left
    of_chunk, closed_over = _converted(problem, loss, size)
    head = Head(of_chunk, problem.batch, size, problem.axes, problem.pieces)
    operands = operands._replace(closed_over=closed_over)
    if reduction == "none":
        return head.losses(operands, left)[0]
    dtype = accumulator(jnp.promote_types(operands.inputs.dtype, operands.kernel.dtype))
    scale = jnp.ones((), dtype)
    if reduction == "mean":
        scale = scale / divisor(problem.batch, dtype, left, weights)
    return head.total(operands, left, scale)


def _converted(problem: Problem, loss: Callable[..., Array], size: int):
    """The loss of a chunk's logits, targets and what it closes over, and the latter."""
    _, kernel, _, targets, _ = problem.operands
    dtype = accumulator(jnp.promote_types(problem.operands.inputs.dtype, kernel.dtype))
    z = ShapeDtypeStruct((size, problem.classes), dtype)
    rows = [ShapeDtypeStruct((size,) + t.shape[len(problem.batch) :], t.dtype) for t in targets]

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
