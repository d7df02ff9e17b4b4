"""Statistics of tokens for evaluation and reinforcement learning, from logits or a linear layer."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import ArrayLike, Bool, Float, Int

from xent_jax import _checks, _shards
from xent_jax._blocks import row_by_row
from xent_jax._cross_entropy import softmax_cross_entropy_with_integer_labels
from xent_jax._labels import IntegerArguments, integer_arguments
from xent_jax._linear_problem import (
    IGNORED,
    SOFT,
    Problem,
    checked,
    numbered,
    without_padding,
)
from xent_jax._modes import Mode, in_both_modes, in_mode
from xent_jax._rows import at_label, filled
from xent_jax._shards import Shards
from xent_jax._softcap import transformed
from xent_jax._softmax import log_softmax, logsumexp
from xent_jax._softmax_entropy import softmax_entropy
from xent_jax._types import AxisName, KernelAxes, accumulator


class TokenStatistics(NamedTuple):
    """Statistics of each token: floats in nats, float32 for half precision, and int32 classes."""

    loss: Array  # [*batch]: -log p_y; 0 for an ignored label
    logsumexp: Array  # [*batch]
    entropy: Array  # [*batch], in nats: -sum_j p_j log p_j
    argmax: Array  # [*batch]: the likeliest class, of several the first
    label_rank: Array  # [*batch]: how many classes come before the label, 0 if it is the argmax
    top_k_log_probabilities: Array  # [*batch, top_k], the likeliest first
    top_k_indices: Array  # [*batch, top_k]: their classes


@in_both_modes
def token_statistics(
    mode: Mode,
    logits: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    where: Bool[ArrayLike, "*batch"] | None = None,
    *,
    ignore_index: int | None = None,
    top_k: int = 0,
    axis_name: AxisName | None = None,
) -> TokenStatistics:
    """Loss, entropy, rank and the likeliest classes of each token, from its logits.

    Args:
        logits: ``[*batch, classes]``, floating-point, in nats.
        labels: y, ``[*batch]``, integers in [0, classes).
        where: booleans that broadcast to ``[*batch]``, for the tokens that take part.
        ignore_index: a label for which there is neither loss nor rank, such as -100.
        top_k: the number of likeliest classes to return.
        axis_name: inside ``jax.shard_map``, the mesh axis or axes over which the classes are
            sharded. The logits are then this shard's, and labels and the classes that are
            returned are indices among all classes.

    Returns:
        ``TokenStatistics``: loss, logsumexp, entropy, argmax, label_rank,
        top_k_log_probabilities, top_k_indices. Floats are in nats, and float32 for half
        precision; classes are int32. Among equal logits, the lower class comes first. So the
        label is among the ``top_k_indices`` if and only if ``label_rank < top_k``. The loss is
        NaN for a label out of range and 0 for an ignored label; the rank is -1 for both. If a
        row has no log-sum-exp, its floats are NaN and its classes -1. For a token that does not
        take part, all floats are 0 and all classes -1.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: ``p - onehot(y)`` of the loss, ``p`` of logsumexp, ``-p (log p + H)`` of the
    entropy H, ``onehot - p`` of a top log-probability; the classes have none. Proof:
    ``token_statistics``. Source: as ``log_softmax`` and ``entropy``.

    Accuracy and perplexity of a batch are means of these statistics:

    >>> found = token_statistics(jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), jnp.array([2, 1]))
    >>> float(jnp.mean(found.label_rank == 0)), round(float(jnp.exp(jnp.mean(found.loss))), 4)
    (0.5, 2.6632)
    """
    name = "token_statistics"
    given = integer_arguments(name, logits, labels, -1, None, ignore_index, None, axis_name)
    if where is not None:
        batch, where = given.layout.batch, _checks.mask(name, "where", where)
        if where.ndim == len(batch) + 1 and where.shape[-1] == 1:
            where = where.squeeze(-1)
        hint = "It cannot mask classes: a logit of -inf leaves its class out."
        where = _checks.broadcastable(name, "where", where, batch, "the tokens", hint)
        where = jnp.broadcast_to(where, batch)
    return _of_logits(mode, checked_top_k(name, top_k, _classes(given)), given, where)


def checked_top_k(name: str, top_k: int, classes: int) -> int:
    """Checks ``top_k``, and returns it as an int."""
    wanted = f"be an integer in [0, {classes}], the number of classes"
    return _checks.integer(name, "top_k", top_k, 0, classes, wanted)


def _classes(given: IntegerArguments) -> int:
    return given.layout.size * given.layout.shards.count


@functools.partial(jax.jit, static_argnums=(0, 1))
def _of_logits(
    mode: Mode, top_k: int, given: IntegerArguments, where: Array | None
) -> TokenStatistics:
    labels = numbered(given.labels, _classes(given), given.ignored)
    z, y, where = _shards.together(given.logits, labels, where)
    ignoring, shards = given.ignored is not None, given.layout.shards
    floats, integers = statistics(mode, filled(z, where), y, ignoring, top_k, shards)
    floats = {name: filled(x, where) for name, x in floats.items()}
    return TokenStatistics(**floats, **{name: filled(x, where, -1) for name, x in integers.items()})


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
    """``token_statistics`` of the logits ``inputs @ kernel + bias``, chunk by chunk.

    The logits are computed for one chunk of tokens at a time, and all of them are never held.

    Args:
        inputs: ``[*batch, D]``, floating-point: the inputs of a model's last layer.
        kernel: ``[D, classes]``, floating-point.
        labels: y, ``[*batch]``, integers in [0, classes).
        bias: ``[classes]``, floating-point.
        where, ignore_index, top_k: as for ``token_statistics``.
        logit_softcap, temperature, num_classes, axis_name: as for
            ``linear_softmax_cross_entropy``.
        kernel_axes, dtype, max_logits_bytes: as for ``with_linear_head``.

    Returns:
        ``TokenStatistics``, with the values that ``token_statistics`` returns.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: of loss, logsumexp, entropy and top_k_log_probabilities, to inputs, kernel, bias,
    cap and temperature: as for ``with_linear_head``, with ``dz`` as for ``token_statistics``.
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
    return _of_linear(ignored, classes, padded, top_k, problem, numbers)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _of_linear(
    ignored: int | None,
    classes: int,
    num_classes: int | None,
    top_k: int,
    problem: Problem,
    numbers: Any,
) -> TokenStatistics:
    problem = problem.replace(targets=(numbered(problem.targets[0], classes, ignored),))
    problem = problem.without_padding(num_classes).typed()
    mode, shards = problem.mode, problem.shards

    def of_chunk(closed_over, z, *targets):
        z = without_padding(transformed(mode, z, *closed_over), num_classes, shards)
        return statistics(mode, z, *targets, ignored is not None, top_k, shards)

    engine, operands = problem.engine(of_chunk, tuple(problem.number(x) for x in numbers))
    floats, integers = engine.losses(operands, problem.mask)
    integers = {name: filled(x, problem.mask, -1) for name, x in integers.items()}
    return TokenStatistics(**floats, **integers)


def statistics(
    mode: Mode, z: Array, y: Array, ignoring: bool, top_k: int, shards: Shards
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Returns the floats and the integers of ``TokenStatistics``; ``numbered`` made the labels."""
    z = z.astype(accumulator(z.dtype))
    log_p = in_mode(mode, log_softmax)(z, axis_name=shards.argument)
    lse = in_mode(mode, logsumexp)(z, axis_name=shards.argument)
    loss = in_mode(mode, softmax_cross_entropy_with_integer_labels)(
        z, y, ignore_index=IGNORED if ignoring else None, axis_name=shards.argument
    )
    indices = _top_k(lax.stop_gradient(z), top_k, shards)
    floats = {
        "loss": loss,
        "logsumexp": lse,
        "entropy": in_mode(mode, softmax_entropy)(z, axis_name=shards.argument),
        "top_k_log_probabilities": _entries(log_p, indices, shards),
    }
    there = ~jnp.isnan(lse)
    ranked = there & (y >= 0)
    integers = {
        "argmax": jnp.where(there, _argmax(lax.stop_gradient(z), shards), -1),
        "label_rank": jnp.where(ranked, _rank(lax.stop_gradient(z), y, shards), -1),
        "top_k_indices": jnp.where(there[..., None], indices, -1),
    }
    return floats, integers


def _argmax(z: Array, shards: Shards) -> Array:
    first = jnp.argmax(z, axis=-1).astype(jnp.int32)
    if not shards:
        return first
    top = jnp.max(z, axis=-1)
    here = top == shards.pmax(top)
    before = jnp.where(here, -_numbered(first, z, shards), jnp.iinfo(jnp.int32).min)
    return -shards.pmax(before)


def _top_k(z: Array, k: int, shards: Shards) -> Array:
    """Returns the k likeliest classes, ``[..., k]``, from the k likeliest of each shard."""
    # ``lax.top_k`` orders -0.0 below 0.0, which are equal logits. XLA drops ``z + 0.0``.
    z = jnp.where(z == 0, jnp.zeros((), z.dtype), z)
    if not shards:
        return lax.top_k(_shards.with_whole_rows(z), k)[1]
    values, indices = lax.top_k(z, min(k, z.shape[-1]))
    own = jnp.arange(shards.count, dtype=jnp.int32) == shards.index
    own = own.reshape((1,) * (z.ndim - 1) + (shards.count, 1))

    def of_all(x: Array) -> Array:
        """Returns ``[..., shards * k]``, with lower classes first, as ``lax.top_k`` breaks ties."""
        x = jnp.where(own, x[..., None, :], jnp.zeros((), x.dtype))
        return shards.psum(x).reshape(*x.shape[:-2], -1)

    values, indices = of_all(values), of_all(_numbered(indices, z, shards))
    return jnp.take_along_axis(indices, lax.top_k(values, k)[1], axis=-1)


def _entries(x: Array, indices: Array, shards: Shards) -> Array:
    near = indices - shards.first_class(x.shape[-1])
    return at_label(x[..., None, :], near, shards)


def _rank(z: Array, y: Array, shards: Shards) -> Array:
    """Returns how many classes precede the label; of equal logits, the lower class is first."""
    if shards:
        y = y.astype(jnp.int32) - shards.first_class(z.shape[-1])
    own = at_label(z, y, shards)
    count = row_by_row(_before, z, y, own)
    return shards.psum(count)


def _before(z: Array, y: Array, own: Array) -> Array:
    classes = jnp.expand_dims(jnp.arange(z.shape[-1], dtype=y.dtype), tuple(range(z.ndim - 1)))
    first = classes < y[..., None]
    before = (z > own[..., None]) | ((z == own[..., None]) & first)
    return jnp.sum(before, axis=-1, dtype=jnp.int32)


def _numbered(index: Array, z: Array, shards: Shards) -> Array:
    """Converts class indices of this shard to indices among all classes."""
    return (index + shards.first_class(z.shape[-1])).astype(jnp.int32)
