"""What evaluation and reinforcement learning ask of each token, in one pass over the logits."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import ArrayLike, Float, Int

from xent_jax import _checks, _shards
from xent_jax._cross_entropy import softmax_cross_entropy_with_integer_labels
from xent_jax._linear_problem import IGNORED, SOFT, Problem, checked, numbered, there
from xent_jax._modes import Mode, in_both_modes, in_mode
from xent_jax._rows import at_label, hits
from xent_jax._softcap import transformed
from xent_jax._softmax import log_softmax, logsumexp
from xent_jax._types import AxisName, KernelAxes


class TokenStatistics(NamedTuple):
    """Of each token; log-probabilities in nats, float32 for half precision, classes int32."""

    loss: Array  # [*batch]: -log p_y; 0 for an ignored label
    logsumexp: Array  # [*batch]
    entropy: Array  # [*batch], in nats: -sum_j p_j log p_j
    argmax: Array  # [*batch]: the likeliest class, of several the first
    label_rank: Array  # [*batch]: how many classes come before the label, 0 if it is the argmax
    top_k_log_probabilities: Array  # [*batch, top_k], the likeliest first
    top_k_indices: Array  # [*batch, top_k]: their classes


@in_both_modes
def linear_token_statistics(
    mode: Mode,
    inputs: Float[ArrayLike, "*batch width"],
    kernel: Float[ArrayLike, "width classes"],
    labels: Int[ArrayLike, "*batch"],
    bias: Float[ArrayLike, " classes"] | None = None,
    *,
    ignore_index: int | None = None,
    logit_softcap: float | Float[ArrayLike, ""] | None = None,
    temperature: float | Float[ArrayLike, ""] = 1.0,
    top_k: int = 0,
    num_classes: int | None = None,
    kernel_axes: KernelAxes = "DV",
    max_logits_bytes: int | None = None,
    axis_name: AxisName | None = None,
) -> TokenStatistics:
    """Loss, entropy, rank and the likeliest classes of each token, from inputs and a kernel.

    Args:
        inputs: ``[*batch, D]``, floating.
        kernel: ``[D, classes]``, floating.
        labels: y, ``[*batch]``, integers in [0, classes).
        bias: ``[classes]``, floating.
        ignore_index: a label that asks for neither loss nor rank, such as -100.
        logit_softcap: c, above 0; the logits are ``c tanh((x W + b) / c)``.
        temperature: above 0; divides the logits, after the soft cap.
        top_k: how many of the likeliest classes.
        num_classes: how many of the kernel's classes there are; those after them pad it.
        kernel_axes: ``"VD"`` for a kernel ``[classes, D]``.
        max_logits_bytes: what a chunk's logits and their gradient may take, in float32; by
            default 128 MiB, with at least 512 tokens in a chunk: ``linear_head_plan``.
        axis_name: as for ``linear_softmax_cross_entropy``; classes count over all shards.

    Returns:
        ``TokenStatistics``: loss, logsumexp, entropy, argmax, label_rank,
        top_k_log_probabilities, top_k_indices. Of equal logits the lower class comes first,
        so that the label is among the ``top_k_indices`` just where ``label_rank < top_k``.
        A label out of range has the loss NaN and the rank -1, an ignored one 0 and -1. Where
        the logits have no log-sum-exp all floats are NaN and all classes -1.

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
    problem = checked(
        name, mode, inputs, kernel, (labels,), bias, None, kernel_axes, max_logits_bytes, axis_name
    )
    classes = problem.num_classes(num_classes)
    wanted = f"be an integer in [0, {classes}], the number of classes"
    top_k = _checks.integer(name, "top_k", top_k, 0, classes, wanted)
    if logit_softcap is not None:
        logit_softcap = _checks.scalar(name, "logit_softcap", logit_softcap, 0, above=True)
    numbers = logit_softcap, _checks.temperature(name, temperature)
    return _of_tokens(ignored, classes, num_classes is not None, top_k, problem, numbers)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _of_tokens(
    ignored: int | None, classes: int, padded: bool, top_k: int, problem: Problem, numbers: Any
) -> TokenStatistics:
    problem = problem.of_labels(numbered(problem.labels, classes, ignored))
    problem = (problem.without_padding(classes) if padded else problem).typed()
    mode, axis_name = problem.mode, problem.axis_name

    def of_chunk(z, targets, closed_over):
        z = transformed(mode, z, *closed_over)
        if padded:
            z = jnp.where(there(z.shape[-1], classes, axis_name), z, -jnp.inf)
        return _statistics(mode, z, *targets, ignored is not None, top_k, axis_name)

    head, operands = problem.head(of_chunk, tuple(problem.number(x) for x in numbers))
    floats, integers = head.losses(operands, None)
    return TokenStatistics(**floats, **integers)


def _statistics(
    mode: Mode, z: Array, y: Array, ignoring: bool, top_k: int, axis_name: AxisName | None
):
    log_p = in_mode(mode, log_softmax)(z, axis_name=axis_name)
    lse = in_mode(mode, logsumexp)(z, axis_name=axis_name)
    loss = in_mode(mode, softmax_cross_entropy_with_integer_labels)(
        z, y, ignore_index=IGNORED if ignoring else None, axis_name=axis_name
    )
    indices = _top_k(lax.stop_gradient(z), top_k, axis_name)
    floats = {
        "loss": loss,
        "logsumexp": lse,
        "entropy": _entropy(log_p, axis_name),
        "top_k_log_probabilities": _entries(log_p, indices, axis_name),
    }
    there = ~jnp.isnan(lse)
    ranked = there & (y >= 0)
    integers = {
        "argmax": jnp.where(there, _argmax(lax.stop_gradient(z), axis_name), -1),
        "label_rank": jnp.where(ranked, _rank(lax.stop_gradient(z), y, axis_name), -1),
        "top_k_indices": jnp.where(there[:, None], indices, -1),
    }
    return floats, integers


def _entropy(log_p: Array, axis_name: AxisName | None) -> Array:
    """-sum_j p_j log p_j, where 0 log 0 is 0."""
    log_p = jnp.where(log_p == -jnp.inf, jnp.finfo(log_p.dtype).min, log_p)
    return -_shards.total(jnp.sum(jnp.exp(log_p) * log_p, axis=-1), axis_name)


def _argmax(z: Array, axis_name: AxisName | None) -> Array:
    first = jnp.argmax(z, axis=-1).astype(jnp.int32)
    if axis_name is None:
        return first
    top = jnp.max(z, axis=-1)
    here = top == _shards.largest(top, axis_name)
    before = jnp.where(here, -_numbered(first, z, axis_name), jnp.iinfo(jnp.int32).min)
    return -_shards.largest(before, axis_name)


def _top_k(z: Array, k: int, axis_name: AxisName | None) -> Array:
    """The likeliest classes: of all, those that are among the likeliest of their shard."""
    # ``lax.top_k`` orders -0.0 below 0.0, which are equal logits. XLA drops ``z + 0.0``.
    z = jnp.where(z == 0, jnp.zeros((), z.dtype), z)
    if axis_name is None:
        return lax.top_k(z, k)[1]
    values, indices = lax.top_k(z, min(k, z.shape[-1]))
    shards = _shards.count(axis_name)
    own = jnp.arange(shards)[:, None] == lax.axis_index(axis_name)

    def of_all(x: Array) -> Array:
        """[rows, shards * k]: lower classes first, as top_k takes them."""
        x = jnp.where(own, x[:, None], jnp.zeros((), x.dtype))
        return _shards.total(x, axis_name).reshape(x.shape[0], -1)

    values, indices = of_all(values), of_all(_numbered(indices, z, axis_name))
    return jnp.take_along_axis(indices, lax.top_k(values, k)[1], axis=-1)


def _entries(x: Array, indices: Array, axis_name: AxisName | None) -> Array:
    if axis_name is None:
        return jnp.take_along_axis(x, indices, axis=-1)
    near = indices - _shards.first_class(x.shape[-1], axis_name)
    return at_label(jnp.broadcast_to(x[:, None], (*near.shape, x.shape[-1])), near, axis_name)


def _rank(z: Array, y: Array, axis_name: AxisName | None) -> Array:
    """How many classes stand before the label, of equal logits the lower ones."""
    if axis_name is not None:
        y = y.astype(jnp.int32) - _shards.first_class(z.shape[-1], axis_name)
    label = hits(z, y)
    own = _shards.largest(jnp.max(jnp.where(label, z, -jnp.inf), axis=-1), axis_name)[:, None]
    before = lax.broadcasted_iota(y.dtype, (1, z.shape[1]), 1) < y[:, None]
    count = jnp.sum((z > own) | ((z == own) & before), axis=-1, dtype=jnp.int32)
    return _shards.total(count, axis_name)


def _numbered(index: Array, z: Array, axis_name: AxisName) -> Array:
    """Classes of this shard, by their numbers among all."""
    return (index + _shards.first_class(z.shape[-1], axis_name)).astype(jnp.int32)
