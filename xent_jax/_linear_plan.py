"""What the linear head will do and take for given shapes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jaxtyping import ArrayLike

from xent_jax._chunks import LIVE
from xent_jax._linear_problem import checked
from xent_jax._rows import accumulator
from xent_jax._types import KernelAxes

_ARGUMENTS = ("inputs", "kernel", "bias")


class LinearHeadPlan(NamedTuple):
    """Tokens in chunks, and bytes of temporary memory; printed, a table."""

    tokens: int
    classes: int
    chunk: int  # tokens in a chunk
    chunks: int
    logits_bytes: int  # of a chunk's logits and their gradient, in float32
    accumulator_bytes: int  # of the sums of the kernel's and the bias's gradient, in float32
    inputs_bytes: int  # of the inputs' gradient
    materialized_bytes: int  # of all logits and their gradient, which the head does not hold

    @property
    def temporary_bytes(self) -> int:
        """What the head holds beside its arguments and results, at most."""
        return self.logits_bytes + self.accumulator_bytes + self.inputs_bytes

    def __str__(self) -> str:
        sizes = {
            "logits of a chunk and their gradient": self.logits_bytes,
            "sums of the kernel's and bias's gradient": self.accumulator_bytes,
            "gradient of the inputs": self.inputs_bytes,
            "temporary memory, at most": self.temporary_bytes,
            "all logits and their gradient, not held": self.materialized_bytes,
        }
        lines = [f"{self.tokens:,} tokens in {self.chunks:,} chunks of {self.chunk:,}"]
        return "\n".join(lines + [f"{k:41}{v / 2**20:12,.1f} MiB" for k, v in sizes.items()])


def linear_head_plan(
    inputs: ArrayLike | jax.ShapeDtypeStruct,
    kernel: ArrayLike | jax.ShapeDtypeStruct,
    bias: ArrayLike | jax.ShapeDtypeStruct | None = None,
    *,
    wrt: Sequence[str] = _ARGUMENTS,
    kernel_axes: KernelAxes = "DV",
    max_logits_bytes: int | None = None,
) -> LinearHeadPlan:
    """The chunks and memory of ``with_linear_head`` and its kin, without running anything.

    Args:
        inputs: ``[*batch, D]``: an array, or a ``jax.ShapeDtypeStruct``.
        kernel: ``[D, classes]``, likewise.
        bias: ``[classes]``, likewise.
        wrt: the arguments whose gradients are taken; none for the value alone.
        kernel_axes, max_logits_bytes: as given to the head.

    Returns:
        ``LinearHeadPlan``: tokens, classes, chunk, chunks, and bytes; ``print`` it. The
        compiler may well need less: often the gradient takes the place of the logits.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, budget or name is.

    >>> x = jax.ShapeDtypeStruct((8, 1024, 2048), jnp.bfloat16)
    >>> kernel = jax.ShapeDtypeStruct((2048, 32768), jnp.bfloat16)
    >>> print(linear_head_plan(x, kernel))
    8,192 tokens in 16 chunks of 512
    logits of a chunk and their gradient            128.0 MiB
    sums of the kernel's and bias's gradient        256.0 MiB
    gradient of the inputs                           32.0 MiB
    temporary memory, at most                       416.0 MiB
    all logits and their gradient, not held       2,048.0 MiB
    """
    name = "linear_head_plan"
    unknown = [w for w in wrt if w not in _ARGUMENTS]
    if isinstance(wrt, str) or unknown:
        raise ValueError(f"{name}: wrt must hold names of {list(_ARGUMENTS)}, got {wrt!r}.")
    for which, x in (("inputs", inputs), ("kernel", kernel), ("bias", bias)):
        if isinstance(x, tuple):
            raise TypeError(f"{name}: {which} must be an array or a jax.ShapeDtypeStruct, got {x}.")
    problem = jax.eval_shape(
        lambda *args: checked(
            name, "reverse", args[0], args[1], (), args[2], None, kernel_axes, max_logits_bytes
        ),
        inputs, kernel, bias,
    )  # fmt: skip
    shapes, tokens, classes = problem.operands, problem.tokens, problem.classes
    chunk = problem.chunks.size
    row = LIVE * 4 * classes
    summed = [getattr(shapes, w) for w in ("kernel", "bias") if w in wrt]
    sums = [math.prod(a.shape) * accumulator(a.dtype).itemsize for a in summed if a is not None]
    return LinearHeadPlan(
        tokens=tokens,
        classes=classes,
        chunk=chunk,
        chunks=-(-tokens // chunk),
        logits_bytes=row * chunk,
        accumulator_bytes=sum(sums),
        inputs_bytes=math.prod(shapes.inputs.shape) * shapes.inputs.dtype.itemsize
        if "inputs" in wrt
        else 0,
        materialized_bytes=row * tokens,
    )
