"""A linear head's checked arguments, which of its tokens and classes take part, its reduction."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from xent_jax import _checks, _shards
from xent_jax._chunks import Chunks, chunks_for
from xent_jax._head import Head
from xent_jax._labels import equal, in_int32
from xent_jax._modes import Mode
from xent_jax._operands import Operands
from xent_jax._reduction import divisor, valid
from xent_jax._rows import accumulator
from xent_jax._types import AxisName, KernelAxes, Reduction
from xent_jax._zero import product

SOFT = "For one-hot or soft labels use with_linear_head(softmax_cross_entropy). "


def _static() -> Any:
    return dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """Checked arguments of a head."""

    operands: Operands  # the targets as leaves, nothing closed over yet
    left: Array | None  # [*batch] booleans: the tokens that take part
    weights: Array | None  # [*batch]: the factors of their losses
    name: str = _static()  # of the function that was called
    mode: Mode = _static()
    tree: Any = _static()  # of the targets
    axes: KernelAxes = _static()
    chunks: Chunks = _static()
    factors: Any = _static()  # the dtype of the factors of all products
    axis_name: AxisName | None = _static()  # over whose shards the classes are divided

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape of the tokens."""
        return self.operands.inputs.shape[:-1]

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return math.prod(self.batch)

    @property
    def classes(self) -> int:
        """The number of classes, of one shard."""
        return self.operands.kernel.shape[self.axes.index("V")]

    @property
    def dtype(self) -> Any:
        """The dtype of logits and losses."""
        return accumulator(self.factors)

    def head(self, loss: Callable[..., Any], closed_over: tuple[Any, ...]) -> tuple[Head, Any]:
        """The head of a loss of logits, and its operands."""
        head = Head(
            loss, self.mode, self.batch, *self.chunks, self.axes, self.factors, self.axis_name
        )
        return head, self.operands._replace(closed_over=closed_over)

    def typed(self) -> "Problem":
        """Marks each array as varying over the mesh axes of its cotangent."""
        inputs, kernel, bias, leaves, _ = self.operands
        divided = _shards.names(self.axis_name)
        by_token = leaves, self.left, self.weights
        tokens = _shards.varying(inputs, kernel, bias, by_token) - divided
        inputs, kernel, bias = _shards.vary((inputs, kernel, bias), tokens | divided)
        leaves, left, weights = _shards.vary(by_token, tokens)
        operands = Operands(inputs, kernel, bias, leaves, ())
        return dataclasses.replace(self, operands=operands, left=left, weights=weights)

    def number(self, option: Any) -> Array | None:
        """A number that all tokens share, typed as its cotangent is.

        It is then summed over the mesh axes of the tokens once, not for each chunk.
        """
        return None if option is None else self.shared(jnp.asarray(option, self.dtype))

    def shared(self, option: Array) -> Array:
        """An array that all tokens share, typed as its cotangent is."""
        return _shards.vary(option, self.token_axes)

    def num_classes(self, value: Any) -> int:
        """How many of the kernel's classes are no padding, checked; all of them for None."""
        every = self.classes * _shards.count(self.axis_name)
        return every if value is None else _checks.num_classes(self.name, value, every)

    @property
    def labels(self) -> Array:
        """The targets of a loss that has labels alone."""
        (labels,) = self.operands.targets
        return labels

    def of_labels(self, labels: Array) -> "Problem":
        """The same with other labels."""
        return dataclasses.replace(self, operands=self.operands._replace(targets=(labels,)))

    @property
    def token_axes(self) -> frozenset[str]:
        """The mesh axes over which the tokens are known to differ."""
        return _shards.varying(self.operands.inputs) - _shards.names(self.axis_name)

    def without(self, tokens: Array) -> "Problem":
        """Only the tokens where ``tokens`` is true."""
        left = tokens if self.left is None else self.left & tokens
        return dataclasses.replace(self, left=left)

    def without_padding(self, num_classes: int | None) -> "Problem":
        """The same with zeros in the columns of the kernel that pad its classes.

        Whatever they hold would reach the gradient of the inputs: 0 * NaN is NaN.
        """
        if num_classes is None or num_classes == self.classes * _shards.count(self.axis_name):
            return self
        mask = there(self.classes, num_classes, self.axis_name)
        kernel = self.operands.kernel
        kernel = jnp.where(mask if self.axes == "DV" else mask.T, kernel, jnp.zeros_like(kernel))
        return dataclasses.replace(self, operands=self.operands._replace(kernel=kernel))


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
) -> Problem:
    """Validates the arguments that all heads share."""
    axes = _checks.kernel_axes(name, axes)
    _checks.axis_name(name, axis_name)
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
    chunks = chunks_for(name, math.prod(batch), inputs.shape[-1], classes, max_logits_bytes)
    operands = Operands(inputs, kernel, bias, tuple(leaves), ())
    return Problem(operands, where, weights, name, mode, tree, axes, chunks, dtype, axis_name)


def _layer(name: str, inputs, kernel, axes: KernelAxes) -> tuple[Array, Array]:
    """Inputs and kernel that fit one another."""
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
    return inputs, kernel


def _promoted(name: str, inputs: Array, kernel: Array) -> Any:
    """The dtype to which JAX promotes both.

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
    """A mask, which broadcasts as that of a loss of logits, with an entry for each token."""
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
    """Weights with an entry for each token."""
    return jnp.broadcast_to(_checks.weights(name, weights, batch), batch)


def _targets(name: str, targets: Any, batch: tuple[int, ...]) -> tuple[list[Array], Any]:
    """The leaves of a tree of arrays with an entry for each token, and the tree."""
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
    """Labels in int32: the number of a class, -1 where it is out of range, or ``IGNORED``."""
    y = in_int32(labels)
    y = jnp.where((y >= 0) & (y < classes), y, -1)
    return y if ignored is None else jnp.where(equal(labels, ignored), IGNORED, y)


def there(classes: int, num_classes: int, axis_name: AxisName | None) -> Array:
    """[1, classes] booleans: which of the shard's classes are no padding."""
    first = _shards.first_class(classes, axis_name)
    return (first + jnp.arange(classes) < num_classes)[None]


def without_padding(z: Array, num_classes: int | None, axis_name: AxisName | None) -> Array:
    """The logits ``[tokens, classes]`` of a chunk, -inf at the classes that pad the kernel."""
    if num_classes is None:
        return z
    return jnp.where(there(z.shape[-1], num_classes, axis_name), z, -jnp.inf)


def reduced(
    problem: Problem,
    loss: Callable[..., tuple[Array, Any]],
    reduction: Reduction,
    by_label: Array | None,
    batch_axis_name: AxisName | None,
) -> tuple[Array, Any]:
    """The reduction of the losses, and what ``loss`` gives besides, ``[*batch, ...]``.

    ``loss`` is a function of a chunk's logits and targets. A mean is over the sum of the weights
    of the tokens, of those ``by_label``, of their products, or over the number of tokens.
    """
    left, weights = problem.left, problem.weights
    head, operands = problem.head(*_converted(problem, loss))
    if weights is not None:
        operands = operands._replace(targets=(*operands.targets, weights))
    if reduction == "none":
        return head.losses(operands, left)
    scale = jnp.ones((), problem.dtype)
    if reduction == "mean":
        weights = None if weights is None else valid(weights, problem.dtype)
        scale = scale / divisor(
            problem.batch, problem.dtype, left, by_label, batch_axis_name, weights
        )
    if not _shards.SCAN_KEEPS_RULES or any(
        problem.token_axes - _shards.varying(c) for c in operands.closed_over
    ):
        # Gradients taken in the forward could not be differentiated again; or that to what is
        # closed over is summed over the mesh by JAX at once, and needs the cotangents at once.
        losses, aux = head.losses(operands, left)
        total = scale * jnp.sum(losses)
    else:
        total, aux = head.total(operands, left, scale)
    return _shards.total(total, batch_axis_name), aux


def _converted(problem: Problem, loss: Callable[..., tuple[Array, Any]]):
    """The loss of a chunk's logits, targets and what it closes over, and the latter."""
    inputs, targets, size = problem.operands.inputs, problem.operands.targets, problem.chunks.size

    def of_chunk(shape: tuple[int, ...], dtype: Any, like: Array) -> jax.ShapeDtypeStruct:
        return _shards.shape_of((size, *shape), dtype, _shards.varying(like))

    z = of_chunk((problem.classes,), problem.dtype, inputs)
    if problem.weights is not None:
        targets = (*targets, problem.weights)
    rows = [of_chunk(t.shape[len(problem.batch) :], t.dtype, t) for t in targets]

    def flat(z: Array, *rows: Array) -> tuple[Array, Any]:
        leaves, weights = rows, None
        if problem.weights is not None:
            leaves, weights = rows[:-1], rows[-1]
        losses, aux = loss(z, *jax.tree.unflatten(problem.tree, leaves))
        _check_losses(problem.name, z, losses, aux)
        if weights is not None:
            losses = product(valid(weights, losses.dtype), losses)
        return losses, jax.tree.map(lax.stop_gradient, aux)

    if problem.mode == "forward":
        jax.eval_shape(flat, z, *rows)
        return lambda z, targets, _: flat(z, *targets), ()
    # All tracers become operands: jax.closure_convert leaves those that are not differentiated,
    # which vmap or a later trace of the rule may still be tracing.
    traced, out = jax.make_jaxpr(flat, return_shape=True)(z, *rows)
    hoisted = [isinstance(c, jax.core.Tracer) for c in traced.consts]

    def of_logits(z: Array, targets: Any, closed: Any) -> tuple[Array, Any]:
        given = iter(closed)
        consts = [next(given) if h else c for h, c in zip(hoisted, traced.consts, strict=True)]
        found = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, consts))(z, *targets)
        return jax.tree.unflatten(jax.tree.structure(out), found)

    return of_logits, tuple(c for h, c in zip(hoisted, traced.consts, strict=True) if h)


def _check_losses(name: str, z: Array, losses: Any, aux: Any) -> None:
    """Raises ValueError unless a loss of logits gives a number, and its aux an entry, per token."""
    if not hasattr(losses, "shape") or losses.shape != z.shape[:1]:
        raise ValueError(
            f"{name}: loss must give one number for each token, [{z.shape[0]}] for logits "
            f"{_checks.describe(z)}, got {_described(losses)}."
        )
    if any(getattr(a, "shape", ())[:1] != z.shape[:1] for a in jax.tree.leaves(aux)):
        raise ValueError(
            f"{name}: aux must hold arrays with one entry for each token, [{z.shape[0]}, ...] for "
            f"logits {_checks.describe(z)}, got {_described(aux)}."
        )


def _described(tree: Any) -> Any:
    return jax.tree.map(lambda x: _checks.describe(x) if hasattr(x, "shape") else repr(x), tree)
