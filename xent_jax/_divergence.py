"""Divergences of the softmax of logits from that of target logits, for distillation.

At a temperature T, with p = softmax(w / T) of the target logits w, q = softmax(z / T), and the
mixture m = beta p + (1 - beta) q:

    KL(p || q) = sum_j p_j log(p_j / q_j) = sum_j (p_j log(p_j / q_j) - (p_j - q_j))
    JSD = beta KL(p || m) + (1 - beta) KL(q || m)
        = sum_j (beta p_j log(p_j / m_j) + (1 - beta) q_j log(q_j / m_j))

In the last sum of each no term is negative. The logarithms and differences keep their digits where
two rows are alike: see ``_two_rows``.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float

from xent_jax import _checks, _shards
from xent_jax._closed_form import closed_form, to_argument
from xent_jax._layout import Layout, layout_of
from xent_jax._modes import Mode, in_both_modes
from xent_jax._reduction import reduce
from xent_jax._rows import hessian_product, poisoned
from xent_jax._shards import Shards
from xent_jax._two_rows import Pair, compared, log_ratios_to_mixture, statistics
from xent_jax._types import Axis, AxisName, Reduction, accumulator
from xent_jax._zero import bounded, product


@in_both_modes
def softmax_kl_divergence(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    target_logits: Float[ArrayLike, "*#shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    temperature: float | Float[ArrayLike, ""] = 1.0,
    weights: Float[ArrayLike, "*batch"] | None = None,
    reduction: Reduction = "none",
    axis_name: AxisName | None = None,
    batch_axis_name: AxisName | None = None,
) -> Float[Shaped, "..."]:
    """Divergence of logits from target logits: ``KL(softmax(w / T) || softmax(z / T))``.

    Exchange the two to get the reverse divergence, ``KL(softmax(z / T) || softmax(w / T))``.

    Args:
        logits: z, ``[*batch, classes]``, floating-point, in nats: the student's logits.
        target_logits: w, floating-point, broadcast to the logits: the teacher's logits.
        axis: the class axis or axes; None for all axes.
        where: booleans with the shape of the batch, for the examples that take part; or
            booleans that broadcast to the logits, for the classes that take part. Other
            classes have probability 0 in both.
        temperature: T, a positive number that divides both. Hinton et al. multiply the loss
            by ``T^2``; this function does not.
        weights: floats that broadcast to ``[*batch]``, at least 0; each multiplies its loss.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the examples that take part. With
            weights, a mean divides by their sum, and is 0 if that is 0.
        axis_name: inside ``jax.shard_map``, the mesh axis or axes over which the classes are
            sharded. Both logits and a mask of classes are then this shard's.
        batch_axis_name: the mesh axes over which the examples are sharded; a sum or mean is
            then over all shards.

    Returns:
        Divergences in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        wider dtype of the two. 0 for an example that does not take part; +inf if a class has a
        logit of -inf and a positive target probability. NaN for a traced temperature that is
        not positive, and for a weight that is negative or NaN.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: ``(q - p) / T`` to the logits and ``p (log(p / q) - KL) / T`` to the target logits,
    with ``p = softmax(w / T)`` and ``q = softmax(z / T)``, each rounded once to its dtype. If
    the divergence is +inf, the latter is NaN. The temperature has a gradient too. Proof:
    ``softmax_kl_divergence``. Source: Hinton, Vinyals and Dean (2015), "Distilling the
    Knowledge in a Neural Network"; Kullback and Leibler (1951).

    >>> loss = softmax_kl_divergence(jnp.zeros(2), jnp.array([20.0, 0.0]))
    >>> round(float(loss), 4)
    0.6931
    """
    given = logits, target_logits, axis, where, temperature, weights
    shared = reduction, axis_name, batch_axis_name
    return _checked("softmax_kl_divergence", mode, _kl, (), *given, *shared)


@in_both_modes
def softmax_jensen_shannon_divergence(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    target_logits: Float[ArrayLike, "*#shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    beta: float | Float[ArrayLike, ""] = 0.5,
    temperature: float | Float[ArrayLike, ""] = 1.0,
    weights: Float[ArrayLike, "*batch"] | None = None,
    reduction: Reduction = "none",
    axis_name: AxisName | None = None,
    batch_axis_name: AxisName | None = None,
) -> Float[Shaped, "..."]:
    """Generalized Jensen-Shannon divergence: ``beta KL(p || m) + (1 - beta) KL(q || m)``.

    Here p = softmax(w / T) are the teacher's probabilities, q = softmax(z / T) the student's, and
    m = beta p + (1 - beta) q is their mixture. beta is defined as in the paper on generalized
    knowledge distillation and in TRL's ``GKDTrainer``. The divergence is never infinite: it is at
    most the entropy of (beta, 1 - beta), which is log 2 for beta = 1/2, where it is symmetric. It
    goes to 0 with beta and with 1 - beta. Divided by beta, it goes to KL(p || q) as beta goes to
    0; divided by 1 - beta, it goes to KL(q || p) as beta goes to 1.

    Args:
        logits: z, ``[*batch, classes]``, floating-point, in nats: the student's logits.
        target_logits: w, floating-point, broadcast to the logits: the teacher's logits.
        axis, where, weights, reduction, axis_name, batch_axis_name: as for
            ``softmax_kl_divergence``.
        beta: a number above 0 and below 1, the weight of the target in the mixture. Where other
            libraries take 0 or 1 for a KL divergence, call ``softmax_kl_divergence``.
        temperature: T, a positive number that divides both logits.

    Returns:
        Divergences in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        wider dtype of the two. 0 for an example that does not take part. NaN for a traced
        temperature that is not positive, a traced beta that is not above 0 and below 1, and a
        weight that is negative or NaN.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong; ``beta``
        must be above 0 and below 1 in the dtype of the result.

    Gradient: ``(1 - beta) q (log(q / m) - KL(q || m)) / T`` to the logits,
    ``beta p (log(p / m) - KL(p || m)) / T`` to the target logits, each rounded once to its dtype;
    ``KL(p || m) - KL(q || m)`` to beta. The temperature has a gradient too. Proof:
    ``softmax_jensen_shannon_divergence``. Source: Agarwal et al. (2024), "On-policy distillation
    of language models"; Lin (1991), "Divergence measures based on the Shannon entropy".

    >>> loss = softmax_jensen_shannon_divergence(jnp.zeros(2), jnp.array([20.0, 0.0]))
    >>> round(float(loss), 4)
    0.2158
    """
    given = logits, target_logits, axis, where, temperature, weights
    shared = reduction, axis_name, batch_axis_name
    name = "softmax_jensen_shannon_divergence"
    return _checked(name, mode, _jensen_shannon, (beta,), *given, *shared)


def _checked(
    name: str,
    mode: Mode,
    divergence: Callable[..., Array],
    betas: tuple[Any, ...],
    logits: ArrayLike,
    target_logits: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    temperature: Any,
    weights: ArrayLike | None,
    reduction: Reduction,
    axis_name: AxisName | None,
    batch_axis_name: AxisName | None,
) -> Array:
    logits = _checks.floats(name, "logits", logits)
    target_logits = _checks.floats(name, "target_logits", target_logits)
    batch_shards = _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    layout = layout_of(name, logits, axis, where, axis_name=axis_name)
    target_logits = _checks.broadcastable(name, "target_logits", target_logits, logits.shape)
    temperature = _checks.scalar(name, "temperature", temperature, 0, above=True)
    dtype = _dtype(logits, target_logits)
    betas = tuple(_checks.fraction(name, "beta", b, dtype, _AT_THE_ENDS) for b in betas)
    weights = _checks.weights(name, weights, layout.batch)
    reduction = _checks.reduction(name, reduction)
    given = logits, target_logits, layout, temperature, betas, weights
    return _divergence(mode, divergence, reduction, batch_shards, *given)


_AT_THE_ENDS = (
    "Where other libraries take 0 or 1 for a KL divergence, call softmax_kl_divergence: with "
    "(logits, target_logits) for 0, with the two exchanged for 1."
)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _divergence(
    mode: Mode,
    divergence: Callable[..., Array],
    reduction: Reduction,
    batch_shards: Shards,
    logits: Array,
    target_logits: Array,
    layout: Layout,
    temperature: Any,
    betas: tuple[Any, ...],
    weights: Array | None,
) -> Array:
    logits, target_logits = _shards.together(logits, target_logits)
    target_logits = jnp.broadcast_to(target_logits, logits.shape)
    z, w = (layout.logits(mode, x) for x in (logits, target_logits))
    dtype = _dtype(z, w)
    temperature = jnp.asarray(temperature, dtype)
    numbers = [poisoned(temperature, temperature > 0)]
    for beta in (jnp.asarray(b, dtype) for b in betas):
        numbers.append(poisoned(beta, (beta > 0) & (beta < 1)))
    losses = divergence(mode, z, w, *numbers, shards=layout.shards)
    return reduce(losses, reduction, layout.example_mask, None, batch_shards, weights)


def _dtype(z: Array, w: Array) -> jnp.dtype:
    return max(accumulator(z.dtype), accumulator(w.dtype), key=lambda d: d.itemsize)


def _kl_value(pair: Pair, z: Array, w: Array, temperature: Array) -> Array:
    both = compared(pair, z, w, temperature)
    return pair.shards.sum(product(both.p, both.d) - both.less)


# dz = (q - p) / T g, dw = H d / T g with H = diag(p) - p p',
# dT = -(<z, q - p> + <w, H d>) / T^2 g.  Proof: softmax_kl_divergence
def _kl_backward(pair: Pair, args, g: Array):
    z, w, temperature = args
    both = compared(pair, z, w, temperature)
    by_x = -both.less
    by_y = hessian_product(both.p, bounded(both.p, both.d), pair.shards)
    along = pair.shards.sum(product(by_x, both.x) + product(by_y, both.y))
    scaled = pair.whole(g)[..., None] / temperature
    return (
        (scaled * by_x).astype(z.dtype),
        (scaled * by_y).astype(w.dtype),
        to_argument(-g * along / temperature, temperature),
    )


_kl = closed_form(statistics, _kl_value, _kl_backward)


def _jensen_shannon_value(pair: Pair, z: Array, w: Array, temperature: Array, beta: Array) -> Array:
    both = compared(pair, z, w, temperature)
    u, v = log_ratios_to_mixture(both.d, beta)
    terms = beta * product(both.p, u) + (1 - beta) * product(both.q, v)
    return pair.shards.sum(terms)


# With u = log(p / m), v = log(q / m) and H of each = diag(p) - p p':
# dz = (1 - beta) H_q v / T g, dw = beta H_p u / T g, dT = -(<z, dz> + <w, dw>) / T,
# dbeta = sum_j (p_j u_j - q_j v_j) g.  Proof: softmax_jensen_shannon_divergence
def _jensen_shannon_backward(pair: Pair, args, g: Array):
    z, w, temperature, beta = args
    both = compared(pair, z, w, temperature)
    u, v = log_ratios_to_mixture(both.d, beta)
    by_x = (1 - beta) * hessian_product(both.q, bounded(both.q, v), pair.shards)
    by_y = beta * hessian_product(both.p, bounded(both.p, u), pair.shards)
    along = pair.shards.sum(product(by_x, both.x) + product(by_y, both.y))
    # Subtracting p - q, which sums to 0, makes each term of both divergences of second order.
    apart = product(both.p, u) - product(both.q, v) - both.less
    scaled = pair.whole(g)[..., None] / temperature
    return (
        (scaled * by_x).astype(z.dtype),
        (scaled * by_y).astype(w.dtype),
        to_argument(-g * along / temperature, temperature),
        to_argument(g * pair.shards.sum(apart), beta),
    )


_jensen_shannon = closed_form(statistics, _jensen_shannon_value, _jensen_shannon_backward)
