"""``token_statistics`` of a linear layer's logits, which are never all held."""

import functools
from typing import Any

import jax
from jax.typing import DTypeLike
from jaxtyping import ArrayLike, Bool, Float, Int

from xent_jax import _checks
from xent_jax._linear_problem import SOFT, Problem, checked, numbered, without_padding
from xent_jax._modes import Mode, in_both_modes
from xent_jax._rows import left
from xent_jax._softcap import transformed
from xent_jax._token_statistics import TokenStatistics, checked_top_k, statistics
from xent_jax._types import AxisName, KernelAxes


@in_both_modes
def linear_token_statistics(
    mode: Mode,
    inputs: Float[ArrayLike, "*batch width"],
    kernel: Float[ArrayLike, "width classes"],
    labels: Int[ArrayLike, "*batch"],
    bias: Float[ArrayLike, " classes"] | None = None,
    where: Bool[ArrayLike, "*batch"] | None = None,
    *,
    ignore_index: int | None = None,
    logit_softcap: float | Float[ArrayLike, ""] | None = None,
    temperature: float | Float[ArrayLike, ""] = 1.0,
    top_k: int = 0,
    num_classes: int | None = None,
    kernel_axes: KernelAxes = "DV",
    dtype: DTypeLike | None = None,
    max_logits_bytes: int | None = None,
    axis_name: AxisName | None = None,
) -> TokenStatistics:
    """``token_statistics`` of ``inputs @ kernel + bias``, which is never all held.

    Args:
        inputs: ``[*batch, D]``, floating.
        kernel: ``[D, classes]``, floating.
        labels: y, ``[*batch]``, integers in [0, classes).
        bias: ``[classes]``, floating.
        where: booleans that broadcast to ``[*batch]``: the tokens that take part.
        ignore_index: a label that asks for neither loss nor rank, such as -100.
        logit_softcap: c, above 0; the logits are ``c tanh((x W + b) / c)``.
        temperature: above 0; divides the logits, after the soft cap.
        top_k: how many of the likeliest classes.
        num_classes: how many of the kernel's classes there are; those after them pad it.
        kernel_axes: ``"VD"`` for a kernel ``[classes, D]``.
        dtype: in which inputs and kernel are multiplied; as for ``with_linear_head``.
        max_logits_bytes: what a chunk's logits and their gradient may take, in float32; by
            default 128 MiB, or for a vocabulary above 32k a chunk of 512 to 2048 tokens:
            ``linear_head_plan``.
        axis_name: as for ``linear_softmax_cross_entropy``; classes count over all shards.

    Returns:
        ``TokenStatistics``: loss, logsumexp, entropy, argmax, label_rank,
        top_k_log_probabilities, top_k_indices. Of equal logits the lower class comes first,
        so that the label is among the ``top_k_indices`` just where ``label_rank < top_k``.
        A label out of range has the loss NaN and the rank -1, an ignored one 0 and -1. Where
        the logits have no log-sum-exp all floats are NaN and all classes -1. Of a token that is
        out all floats are 0 and all classes -1.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, option or range is.

    Gradient: of loss, logsumexp, entropy and top_k_log_probabilities, to inputs, kernel, bias,
    cap and temperature: as ``with_linear_head``, where ``dz = -p (log p + H)`` for the entropy H.
    Proof: ``linear_token_statistics``. Source: as ``with_linear_head``.

    >>> x, kernel = jnp.ones((3, 8)), jnp.zeros((8, 100)).at[:, 5].set(1.0)
    >>> found = linear_token_statistics(x, kernel, jnp.array([5, 0, 99]), top_k=2)
    >>> found.argmax.tolist(), found.label_rank.tolist(), found.top_k_indices[0].tolist()
    ([5, 5, 5], [0, 1, 99], [5, 0])
    """
    name = "linear_token_statistics"
    labels = _checks.integers(name, "labels", labels, SOFT)
    ignored = _checks.ignore_index(name, ignore_index, labels.dtype)
    layer = inputs, kernel, (labels,), bias, where
    problem = checked(name, mode, *layer, kernel_axes, max_logits_bytes, dtype, axis_name)
    classes = problem.num_classes(num_classes)
    top_k = checked_top_k(name, top_k, classes)
    if logit_softcap is not None:
        logit_softcap = _checks.scalar(name, "logit_softcap", logit_softcap, 0, above=True)
    numbers = logit_softcap, _checks.temperature(name, temperature)
    padded = None if num_classes is None else classes
    return _of_tokens(ignored, classes, padded, top_k, problem, numbers)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _of_tokens(
    ignored: int | None,
    classes: int,
    num_classes: int | None,
    top_k: int,
    problem: Problem,
    numbers: Any,
) -> TokenStatistics:
    problem = problem.replace(targets=(numbered(problem.targets[0], classes, ignored),))
    problem = problem.without_padding(num_classes).typed()
    mode, axis_name = problem.mode, problem.axis_name

    def of_chunk(closed_over, z, *targets):
        z = without_padding(transformed(mode, z, *closed_over), num_classes, axis_name)
        return statistics(mode, z, *targets, ignored is not None, top_k, axis_name)

    engine, operands = problem.engine(of_chunk, tuple(problem.number(x) for x in numbers))
    floats, integers = engine.losses(operands, problem.mask)
    integers = {name: left(x, problem.mask, -1) for name, x in integers.items()}
    return TokenStatistics(**floats, **integers)
