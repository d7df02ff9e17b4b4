"""The chunks and the memory of the linear head, from the shapes of its arguments."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.typing import DTypeLike
from jaxtyping import ArrayLike

from xent_jax import _checks
from xent_jax._chunks import LIVE
from xent_jax._engine import kept_dtype
from xent_jax._linear import linear_softmax_cross_entropy
from xent_jax._linear_problem import Problem, checked
from xent_jax._token_statistics import linear_token_statistics
from xent_jax._types import KernelAxes, accumulator

_NAME = "linear_head_plan"
_ARGUMENTS = ("inputs", "kernel", "bias")
_HEADS = (linear_softmax_cross_entropy, linear_token_statistics)
_MASKS = {"where", "ignore_index", "num_classes", "class_weights"}  # take one more array of logits
_LEFT_OUT = {"where", "ignore_index", "weights"}  # leave out tokens; a chunk gathers the others
_CAP = "logit_softcap"
_NUMBERS = 32  # bytes of labels, weights and row statistics, for each token and each class


class LinearHeadPlan(NamedTuple):
    """The chunks and the bytes of temporary memory of a linear head; ``print`` shows a table."""

    tokens: int  # the number of tokens
    classes: int  # the number of classes
    chunk: int  # the number of tokens in a chunk
    chunks: int  # the number of chunks
    logits_bytes: int  # a chunk's logits, and the arrays of their size that are held with them
    accumulator_bytes: int  # the sums of the gradients of kernel and bias that are not results
    inputs_bytes: int  # the gradient of the inputs, in its wider dtype
    copies_bytes: int  # copies of inputs and kernel in other dtypes, or with zeros as padding
    numbers_bytes: int  # the few numbers for each token and each class
    materialized_bytes: int  # all logits and their gradient, which the head does not hold
    flops_per_byte: float  # operations of a chunk's products for each byte read or written of W, dW

    @property
    def temporary_bytes(self) -> int:
        """The most bytes that the head holds beside its arguments and results."""
        held = self.logits_bytes + self.accumulator_bytes + self.inputs_bytes
        return held + self.copies_bytes + self.numbers_bytes

    def __str__(self) -> str:
        sizes = {
            "logits of a chunk and what is made of them": self.logits_bytes,
            "sums of the kernel's and bias's gradient": self.accumulator_bytes,
            "gradient of the inputs": self.inputs_bytes,
            "copies of inputs and kernel": self.copies_bytes,
            "numbers for each token and class": self.numbers_bytes,
            "temporary memory, at most": self.temporary_bytes,
            "all logits and their gradient, not held": self.materialized_bytes,
        }
        lines = [f"{self.tokens:,} tokens in {self.chunks:,} chunks of {self.chunk:,}"]
        lines += [f"{k:43}{v / 2**20:10,.1f} MiB" for k, v in sizes.items()]
        ratio = "arithmetic of a chunk over kernel traffic"
        return "\n".join([*lines, f"{ratio:43}{self.flops_per_byte:10,.1f} flops/byte"])


def linear_head_plan(
    inputs: ArrayLike | jax.ShapeDtypeStruct,
    kernel: ArrayLike | jax.ShapeDtypeStruct,
    bias: ArrayLike | jax.ShapeDtypeStruct | None = None,
    *,
    head: Callable[..., Any] = linear_softmax_cross_entropy,
    options: Sequence[str] = (),
    wrt: Sequence[str] = _ARGUMENTS,
    kernel_axes: KernelAxes = "DV",
    dtype: DTypeLike | None = None,
    max_logits_bytes: int | None = None,
) -> LinearHeadPlan:
    """The chunks and the memory of a linear head, computed from shapes without running it.

    The memory is an upper bound for ``linear_softmax_cross_entropy`` and
    ``linear_token_statistics`` with any of their options, and for ``with_linear_head`` of
    ``softmax_cross_entropy_with_integer_labels`` or ``softmax_focal_loss``. There is no bound for a
    loss of your own, for a loss whose targets have a number for each class, and for the gradients
    of ``forward_mode``, which JAX derives from tangents. For these, compile the program and read
    its ``memory_analysis()``.

    Args:
        inputs: ``[*batch, D]``: an array, or a ``jax.ShapeDtypeStruct``.
        kernel: ``[D, classes]``, likewise.
        bias: ``[classes]``, likewise.
        head: ``linear_softmax_cross_entropy``, also for ``with_linear_head``, or
            ``linear_token_statistics``.
        options: the names of the options that you pass to the head. ``where``, ``ignore_index``,
            ``num_classes``, ``class_weights`` and ``logit_softcap`` (for ``with_linear_head``, a
            soft cap as its ``logit_transform``) need arrays of the size of a chunk's logits.
        wrt: the names of the arguments to differentiate; empty for the value alone.
        kernel_axes, dtype, max_logits_bytes: what you pass to the head.

    Returns:
        ``LinearHeadPlan``: tokens, classes, chunk, chunks, bytes and ``flops_per_byte``. The
        compiler may well need less memory: often the gradient overwrites the logits, and a GPU or
        TPU multiplies half precision without a copy. Compare ``flops_per_byte`` with the number of
        floating-point operations that the device does while its memory moves one byte: in
        bfloat16 about 295 on an H100, 240 on a TPU v5e and 560 on a v6e. If it is larger than
        this, the arithmetic takes longer than reading and writing the kernel and its gradient.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, a limit, a function or a name is wrong.

    >>> x = jax.ShapeDtypeStruct((8, 1024, 2048), jnp.float32)
    >>> kernel = jax.ShapeDtypeStruct((2048, 32768), jnp.float32)
    >>> print(linear_head_plan(x, kernel))
    8,192 tokens in 16 chunks of 512
    logits of a chunk and what is made of them      128.0 MiB
    sums of the kernel's and bias's gradient        256.0 MiB
    gradient of the inputs                           64.0 MiB
    copies of inputs and kernel                       0.0 MiB
    numbers for each token and class                  1.2 MiB
    temporary memory, at most                       449.2 MiB
    all logits and their gradient, not held       2,048.0 MiB
    arithmetic of a chunk over kernel traffic       192.0 flops/byte
    """
    _check(head, options, wrt, {"inputs": inputs, "kernel": kernel, "bias": bias})
    problem = jax.eval_shape(
        lambda x, w, b: checked(
            _NAME, "reverse", x, w, (), b, None, kernel_axes, max_logits_bytes, dtype,
            ignoring=bool(_LEFT_OUT & set(options)),
        ),
        inputs, kernel, bias,
    )  # fmt: skip
    tokens, classes = problem.tokens, problem.classes
    chunk = problem.chunks.size
    itemsize = problem.dtype.itemsize
    row = itemsize * classes
    # A chunk reads the kernel twice; it reads and writes the sum of its gradient in float32.
    traffic = 2 * problem.factors.itemsize + 2 * itemsize
    return LinearHeadPlan(
        tokens=tokens,
        classes=classes,
        chunk=chunk,
        chunks=-(-tokens // chunk),
        logits_bytes=_arrays(head, set(options), bool(wrt)) * row * chunk,
        accumulator_bytes=sum(_of_gradient(problem, n, wrt) for n in ("kernel", "bias")),
        inputs_bytes=_of_gradient(problem, "inputs", wrt),
        copies_bytes=_of_copies(problem, set(options)),
        numbers_bytes=_NUMBERS * (tokens + classes),
        materialized_bytes=LIVE * row * tokens,
        flops_per_byte=6 * chunk / traffic,
    )


def _check(
    head: Any, options: Sequence[str], wrt: Sequence[str], arrays: Mapping[str, Any]
) -> None:
    """Raises an error if the head, a name or the type of an array is wrong."""
    if head not in _HEADS:
        raise ValueError(
            f"{_NAME}: head must be {' or '.join(f.__name__ for f in _HEADS)}, got "
            f"{_checks.shown(head)}. For another loss compile the program and read its "
            f"memory_analysis()."
        )
    taken = [p for p in inspect.signature(head).parameters if p not in (*_ARGUMENTS, "labels")]
    for which, names, known in (("wrt", wrt, list(_ARGUMENTS)), ("options", options, taken)):
        if isinstance(names, str) or any(n not in known for n in names):
            raise ValueError(f"{_NAME}: {which} must hold names of {known}, got {names!r}.")
    for which, x in arrays.items():
        if isinstance(x, tuple):
            raise TypeError(
                f"{_NAME}: {which} must be an array or a jax.ShapeDtypeStruct, got {x}."
            )


def _of_gradient(problem: Problem, which: str, wrt: Sequence[str]) -> int:
    """Returns the bytes of a gradient, and of its cast or of the part that is added to it."""
    a = getattr(problem, which)
    if a is None or which not in wrt:
        return 0
    wide, own = accumulator(a.dtype), a.dtype
    if wide == own:  # one of the two is the result
        return math.prod(a.shape) * own.itemsize
    besides = kept_dtype(own) if which == "inputs" else wide
    return math.prod(a.shape) * (wide.itemsize + besides.itemsize)


def _of_copies(problem: Problem, options: set[str]) -> int:
    """Returns the bytes of copies of the inputs and the kernel."""
    factor, itemsize = problem.factors, problem.dtype.itemsize
    copies = 0
    for a in (problem.inputs, problem.kernel):
        widths = factor.itemsize * (a.dtype != factor), itemsize * (factor.itemsize < itemsize)
        copies += math.prod(a.shape) * sum(widths)
    if "num_classes" in options:  # the kernel with zeros for its padding
        copies += problem.kernel.size * problem.kernel.dtype.itemsize
    if _LEFT_OUT & options:  # the inputs of a chunk, gathered
        row = problem.inputs.shape[-1] * problem.inputs.dtype.itemsize
        copies += problem.chunks.size * row
    return copies


def _arrays(head: Callable[..., Any], options: set[str], gradient: bool) -> int:
    """Returns how many arrays of the size of a chunk's logits XLA:CPU holds at most.

    A gradient holds the logits and their gradient. The value alone holds the logits and, unless
    the exponentials are summed in blocks of classes, their exponentials. In a gradient, masked
    logits or a smoothed target with class weights are one more array, and capped logits another.
    The gradient of all statistics also holds a second form of the exponentials, the terms of the
    entropy, and the gradient of the log-probabilities.
    """
    masked, capped = bool(_MASKS & options), _CAP in options
    if head is linear_token_statistics:
        # XLA:CPU keeps the product beside the logits that are made of it.
        changed = bool({_CAP, "temperature", "num_classes"} & options)
        return LIVE + (4 + capped if gradient else changed)
    return LIVE + (masked + capped if gradient else 0)
