"""Losses of a linear layer's logits, from its inputs and kernel: see ``_engine``."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float, Int

from xent_jax import _checks
from xent_jax._cross_entropy import softmax_cross_entropy_with_integer_labels
from xent_jax._hashable import compiled, key_of
from xent_jax._labels import class_weights_of, equal, smoothing_and_z_loss, weighed
from xent_jax._linear_problem import (
    SOFT,
    Problem,
    checked,
    class_mask,
    numbered,
    without_padding,
)
from xent_jax._modes import Mode, explained, in_both_modes, in_mode
from xent_jax._shards import Shards
from xent_jax._softcap import transformed
from xent_jax._types import AxisName, KernelAxes, Reduction


@in_both_modes
def with_linear_head(
    mode: Mode,
    loss: Callable[..., Array],
    *,
    has_aux: bool = False,
    reduction: Reduction = "mean",
    logit_transform: Callable[[Array], Array] | None = None,
    num_classes: int | None = None,
    kernel_axes: KernelAxes = "DV",
    dtype: DTypeLike | None = None,
    max_logits_bytes: int | None = None,
    axis_name: AxisName | None = None,
    batch_axis_name: AxisName | None = None,
) -> Callable[..., Any]:
    """Turns a loss of logits into a loss of inputs and a kernel that never holds all logits.

    ``head(inputs, kernel, *targets, bias=b)`` returns the reduction of
    ``loss(logit_transform(inputs @ kernel + b), *targets)``. Forward and backward pass compute
    the logits of one chunk of tokens at a time. Outside ``jax.jit``, a call is compiled once for
    each shape if the loss and the transform are functions without closures, or a
    ``functools.partial`` of such a function with hashable arguments. A loss with a closure is
    compiled at each call, because what it closes over may have changed: call its head under
    ``jax.jit``.

    Args:
        loss: ``(logits [tokens, classes], *targets) -> [tokens]``, any loss of this library with
            ``reduction="none"``, or your own. The loss of a token must not depend on other
            tokens. Arrays that the loss closes over get their gradients too.
        has_aux: whether ``loss`` returns ``(losses, aux)``, where ``aux`` is a tree of arrays
            ``[tokens, ...]`` without gradient, such as whether each prediction is right. The head
            then returns ``(value, aux)`` from the same pass, for
            ``jax.value_and_grad(..., has_aux=True)``. Its arrays are ``[*batch, ...]``, and 0 for
            tokens that do not take part.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the tokens that take part. With
            weights, a mean divides by their sum, and is 0 if that is 0.
        logit_transform: a function of the logits that is applied first, such as a soft cap.
        num_classes: the number of classes, if the kernel is padded to more. The loss gets
            logits of -inf for the padding, whatever its columns hold. A loss with label smoothing
            must mask the padding itself.
        kernel_axes: ``"DV"``, or ``"VD"`` for a kernel ``[classes, D]`` such as a tied
            embedding, of which ``embedding.T`` would be a copy.
        dtype: the dtype of the factors in the matrix products of the loss and its gradients; by
            default the one to which JAX promotes inputs and kernel. Pass ``jnp.bfloat16`` for
            activations in bfloat16 and a kernel in float32: JAX would multiply in float32.
        max_logits_bytes: the bytes that a chunk's logits and their gradient may take in float32.
            The default is 128 MiB, or for a vocabulary above 32k a chunk of 512 to 2048 tokens;
            ``linear_head_plan`` prints it. If the number of tokens is a symbol of ``jax.export``,
            a chunk has as many tokens as this allows.
        axis_name: inside ``jax.shard_map``, the mesh axis or axes over which the classes are
            sharded. Kernel, bias and the logits that ``loss`` gets are then this shard's, and
            ``loss`` must have the same ``axis_name``.
        batch_axis_name: the mesh axes over which the tokens are sharded; a sum or mean is
            then over all shards.

    Returns:
        ``head(inputs, kernel, *targets, bias=None, where=None, weights=None)``. It takes inputs
        ``[*batch, D]``, a kernel ``[D, classes]``, targets (trees of arrays ``[*batch, ...]``), a
        bias ``[classes]``, ``where``, booleans that broadcast to ``[*batch]`` for the tokens that
        take part, and ``weights``, floats that broadcast to ``[*batch]`` and multiply the losses.
        A loss with a negative or NaN weight is NaN. Tokens that ``where`` or a weight of 0 leaves
        out are not computed, except that a gradient to the weights needs the losses of tokens
        with weight 0. The value has the dtype of the losses, which is float32 for half
        precision. Each gradient has the dtype of its argument, and is summed over the tokens of a
        device in float32. With a sum or mean, gradients of float16 arrays stay in float32
        until the backward pass, so that a loss scale neither overflows nor loses digits.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: ``dz W'`` to the inputs, ``x' dz`` to the kernel, ``sum dz`` to the bias, with
    ``dz`` the gradient of ``loss`` to a token's logits. With a sum or mean, they are computed
    in the forward pass. Proof: ``with_linear_head``. Source: Hsu et al. (2024), "Liger
    Kernel"; Wijmans et al. (2024), "Cut Your Losses".

    This distills from the teacher's ten likeliest tokens:

    >>> import jax
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

    if not isinstance(has_aux, bool):
        raise TypeError(f"{name}: has_aux must be True or False, got {_checks.shown(has_aux)}.")
    transform = logit_transform and in_mode(mode, logit_transform)
    of_logits = _Composed(in_mode(mode, loss), transform, has_aux)
    dtype = _checks.product_dtype(name, dtype)
    layer = axes, max_logits_bytes, dtype, axis_name
    return AnyHead(mode, of_logits, reduction, num_classes, layer, batch_axis_name)


@dataclasses.dataclass(frozen=True, eq=False)
class AnyHead:
    """The function of inputs, a kernel and targets that ``with_linear_head`` returns."""

    mode: Mode
    of_logits: "_Composed"
    reduction: Reduction
    num_classes: int | None
    layer: tuple[KernelAxes, int | None, Any, AxisName | None]  # as ``checked`` takes them
    batch_axis_name: AxisName | None

    def __call__(
        self,
        inputs: Any,
        kernel: Any,
        *targets: Any,
        bias: Any = None,
        where: Any = None,
        weights: Any = None,
        **others: Any,
    ) -> Any:
        """Returns the reduced losses, and with ``has_aux`` also the auxiliaries of the loss."""
        problem = self.problem(inputs, kernel, targets, bias, where, weights, others)
        classes = None if self.num_classes is None else problem.num_classes(self.num_classes)
        batch_shards = _checks.axis_name(
            "with_linear_head", self.batch_axis_name, name="batch_axis_name"
        )
        with explained():
            loss = self.of_logits
            run = compiled(_any_loss, _any_loss_compiled, loss, lambda: loss.key)
            value, aux = run((self.reduction, classes, batch_shards), problem)
            return (value, aux) if self.of_logits.has_aux else value

    def problem(
        self,
        inputs: Any,
        kernel: Any,
        targets: Any,
        bias: Any,
        where: Any,
        weights: Any,
        others: dict[str, Any],
    ) -> Problem:
        """Checks the arguments of a call; raises TypeError if there are ``others``."""
        if others:
            raise TypeError(
                f"with_linear_head: the head takes inputs, kernel, targets, bias, where and "
                f"weights, got {', '.join(others)}. An option of the loss goes to the loss: "
                f"with_linear_head(functools.partial(loss, {next(iter(others))}=...))."
            )
        given = inputs, kernel, targets, bias, where, *self.layer, weights
        return checked("with_linear_head", self.mode, *given)


def _any_loss(
    loss: Any,
    options: tuple[Reduction, int | None, Shards],
    problem: Problem,
) -> tuple[Array, Any]:
    reduction, num_classes, batch_shards = options
    problem = problem.without_padding(num_classes).typed()
    of_chunk = functools.partial(loss, num_classes, problem.shards)
    return problem.reduced(*problem.hoisted(of_chunk), reduction, None, batch_shards)


_any_loss_compiled = jax.jit(_any_loss, static_argnums=(0, 1))


class _Composed(NamedTuple):
    """Composes a transform of logits and a loss; aux is () for a loss without auxiliaries."""

    loss: Callable[..., Any]
    transform: Callable[[Array], Array] | None
    has_aux: bool

    @property
    def key(self) -> Hashable:
        """Identifies the loss and the transform; raises TypeError where ``key_of`` does."""
        return key_of(self.loss), key_of(self.transform), self.has_aux

    def __call__(
        self, num_classes: int | None, shards: Shards, logits: Array, *targets: Any
    ) -> tuple[Any, Any]:
        if self.transform is not None:
            logits = self.transform(logits)
        out = self.loss(without_padding(logits, num_classes, shards), *targets)
        if not self.has_aux:
            return out, ()
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(
                f"with_linear_head: loss must give a pair (losses, aux) with has_aux=True, got "
                f"{_checks.shown(out)}."
            )
        return out


@in_both_modes
def linear_softmax_cross_entropy(
    mode: Mode,
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
    weights: Float[ArrayLike, "*batch"] | None = None,
    logit_softcap: float | Float[ArrayLike, ""] | None = None,
    temperature: float | Float[ArrayLike, ""] = 1.0,
    num_classes: int | None = None,
    reduction: Reduction = "mean",
    kernel_axes: KernelAxes = "DV",
    dtype: DTypeLike | None = None,
    max_logits_bytes: int | None = None,
    axis_name: AxisName | None = None,
    batch_axis_name: AxisName | None = None,
) -> Float[Shaped, "..."]:
    """Softmax cross-entropy of the logits ``inputs @ kernel + bias``, chunk by chunk.

    The logits are computed for one chunk of tokens at a time, and all of them are never held.

    Args:
        inputs: ``[*batch, D]``, floating-point: the inputs of a model's last layer.
        kernel: ``[D, classes]``, floating-point.
        labels: y, ``[*batch]``, integers in [0, classes).
        bias: ``[classes]``, floating-point.
        where: booleans that broadcast to ``[*batch]``, for the tokens that take part.
        ignore_index: a label whose tokens do not take part, such as -100.
        label_smoothing, z_loss, class_weights: as for
            ``softmax_cross_entropy_with_integer_labels``.
        weights: floats that broadcast to ``[*batch]``, at least 0; each multiplies its loss.
        logit_softcap: c, above 0; the logits are ``c tanh((x W + b) / c)``.
        temperature: a number above 0 that divides the logits, after the soft cap.
        num_classes: the number of classes, if the kernel is padded to more; the padding takes
            no part.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the tokens that take part. With
            weights or class weights, a mean divides by the sum over the tokens of weight times
            class weight of the label, and is 0 if the weights are all 0.
        kernel_axes, dtype, max_logits_bytes: as for ``with_linear_head``.
        axis_name: inside ``jax.shard_map``, the mesh axis or axes over which the classes are
            sharded. Kernel, bias and class_weights are then this shard's, and labels are
            indices among all classes. ``shard_linear_head`` writes the ``shard_map``.
        batch_axis_name: the mesh axes over which the tokens are sharded; a sum or mean is
            then over all shards.

    Returns:
        Losses in nats, ``[*batch]`` or a scalar; float32 for half precision. 0 for a token
        that ``where``, ``ignore_index`` or a weight of 0 leaves out, whatever its input holds;
        such a token is not computed. Value and gradient are NaN for a label out of range, for a
        weight that is negative or NaN, and for a traced temperature that is not above 0.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: ``dz W'`` to the inputs, ``x' dz`` to the kernel and ``sum dz`` to the bias,
    with ``dz`` the gradient of ``softmax_cross_entropy_with_integer_labels``. The weights,
    smoothing, z-loss, cap and temperature have gradients too. Proof:
    ``linear_softmax_cross_entropy``. Source: as ``with_linear_head``.

    >>> x, kernel = jnp.ones((3, 8)), jnp.zeros((8, 100))
    >>> round(float(linear_softmax_cross_entropy(x, kernel, jnp.array([0, 5, 99]))), 4)
    4.6052
    """
    name = "linear_softmax_cross_entropy"
    labels = _checks.integers(name, "labels", labels, SOFT)
    ignored = _checks.ignore_index(name, ignore_index, labels.dtype)
    layer = inputs, kernel, (labels,), bias, where
    problem = checked(
        name, mode, *layer, kernel_axes, max_logits_bytes, dtype, axis_name, weights,
        ignoring=ignored is not None,
    )  # fmt: skip
    batch_shards = _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    if num_classes is not None:
        num_classes = problem.num_classes(num_classes)
    smoothing, c = smoothing_and_z_loss(name, label_smoothing, z_loss)
    by_class = class_weights_of(name, class_weights, problem.classes)
    temperature = _checks.temperature(name, temperature)
    if logit_softcap is not None:
        logit_softcap = _checks.scalar(name, "logit_softcap", logit_softcap, 0, above=True)
    reduction = _checks.reduction(name, reduction)
    numbers = _Options(smoothing, c, by_class, logit_softcap, temperature)
    return _integer_loss(reduction, ignored, num_classes, batch_shards, problem, numbers)


class _Options(NamedTuple):
    """Holds the checked options of the loss of logits; None for one that is off."""

    label_smoothing: Any
    z_loss: Any
    class_weights: Array | None
    logit_softcap: Any
    temperature: Any


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _integer_loss(
    reduction: Reduction,
    ignored: int | None,
    num_classes: int | None,
    batch_shards: Shards,
    problem: Problem,
    options: _Options,
) -> Array:
    if ignored is not None:
        problem = problem.without(~equal(problem.targets[0], ignored))
    if num_classes is not None:
        problem = problem.replace(targets=(numbered(problem.targets[0], num_classes),))
    problem = problem.without_padding(num_classes)
    problem, by_class, by_label = problem.typed(), options.class_weights, None
    if by_class is not None:
        by_class = by_class.astype(problem.dtype)
        size, shards = problem.classes, problem.shards
        _, by_label = weighed(
            problem.targets[0], size, by_class, problem.mask, problem.dtype, shards
        )
        by_class = problem.shared(by_class)
    numbers = map(problem.number, options._replace(class_weights=None))
    options = _Options(*numbers)._replace(class_weights=by_class)

    def loss(closed_over: tuple, z: Array, y: Array) -> tuple[Array, Any]:
        given = _Options(*closed_over)
        z = transformed(problem.mode, z, given.logit_softcap, given.temperature)
        numbers = {"label_smoothing": given.label_smoothing, "z_loss": given.z_loss}
        mask = None
        if num_classes is not None:
            mask = class_mask(problem.classes, num_classes, problem.shards)
        losses = in_mode(problem.mode, softmax_cross_entropy_with_integer_labels)(
            z,
            y,
            where=mask,
            class_weights=given.class_weights,
            axis_name=problem.shards.argument,
            **{k: v for k, v in numbers.items() if v is not None},
        )
        return losses, ()

    return problem.reduced(loss, options, reduction, by_label, batch_shards)[0]
