"""Binary cross-entropy and binary focal loss of logits."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float

from xent_jax import _checks, _shards
from xent_jax._closed_form import closed_form, to_argument
from xent_jax._labels import number
from xent_jax._modes import Mode, in_both_modes
from xent_jax._reduction import reduce
from xent_jax._types import Reduction, accumulator
from xent_jax._zero import bounded, masked, mixed, product, times, weighed


@in_both_modes
def sigmoid_binary_cross_entropy(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*#shape"],
    *,
    label_smoothing: float | Float[ArrayLike, ""] = 0.0,
    pos_weight: Float[ArrayLike, "*#shape"] | None = None,
    where: Bool[ArrayLike, "*#shape"] | None = None,
    weights: Float[ArrayLike, "*#shape"] | None = None,
    reduction: Reduction = "none",
) -> Float[Shaped, "..."]:
    """Binary cross-entropy: ``-w t log s(z) - (1 - t) log s(-z)``, s the sigmoid.

    Args:
        logits: any shape, floating-point, in nats: the log-odds of each independent label.
        labels: t, the probabilities of the positive class, broadcast to the logits; integers
            and booleans are read as 0 and 1.
        label_smoothing: e in [0, 1]; ``t`` becomes ``(1 - e) t + e / 2``.
        pos_weight: w, the weight of the positive term, broadcast to the logits.
        where: booleans that broadcast to the logits: the elements that take part.
        weights: floats that broadcast to the logits, at least 0; each multiplies its loss.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the elements that take part. With
            weights, a mean divides by their sum, and is 0 if that is 0.

    Returns:
        Losses in nats with the shape of ``logits``, or a scalar; float32 for half
        precision, else the logits' dtype. 0 where ``where`` is false, NaN for a weight that is
        negative or NaN.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape, an option or a range is wrong.

    Gradient: ``(1 - t) s(z) - w t s(-z)``. The labels and weights have gradients too. Proof:
    ``sigmoid_binary_cross_entropy``. Source: Goodfellow et al. (2016), "Deep Learning",
    section 6.2.2.2.

    >>> round(float(sigmoid_binary_cross_entropy(jnp.array(0.0), 1)), 4)
    0.6931
    """
    name = "sigmoid_binary_cross_entropy"
    logits = _checks.floats(name, "logits", logits)
    labels = _binary_labels(name, labels, logits)
    smoothing = _checks.scalar(name, "label_smoothing", label_smoothing, 0, 1)
    reduction = _checks.reduction(name, reduction)
    if where is not None:
        where = _checks.mask(name, "where", where)
        where = _checks.broadcastable(name, "where", where, logits.shape)
    if pos_weight is not None:
        pos_weight = _checks.reals(name, "pos_weight", pos_weight)
        pos_weight = _checks.broadcastable(name, "pos_weight", pos_weight, logits.shape)
    weights = _checks.weights(name, weights, logits.shape)
    smoothing = None if _checks.unused(smoothing) else smoothing
    return _binary_loss(mode, reduction, logits, labels, where, smoothing, pos_weight, weights)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _binary_loss(
    mode: Mode,
    reduction: Reduction,
    logits: Array,
    labels: Array,
    where: Array | None,
    smoothing: Any,
    pos_weight: Array | None,
    weights: Array | None,
) -> Array:
    dtype = accumulator(logits.dtype)
    weight, smoothing = number(pos_weight, dtype), number(smoothing, dtype)
    z, t, weight, mask = _shards.together(logits, labels.astype(dtype), weight, where)
    if mask is not None:
        mask = jnp.broadcast_to(mask, z.shape)
        z = jnp.where(mask, z, jnp.zeros((), z.dtype))
        t = jnp.where(mask, t, jnp.zeros((), dtype))
    if smoothing is not None:
        t = mixed(smoothing, t, jnp.asarray(0.5, dtype))
        # The labels are cleared again, so that masked elements add nothing to the gradient of the
        # smoothing.
        t = t if mask is None else jnp.where(mask, t, jnp.zeros((), dtype))
    return reduce(_binary(mode, z, t, weight), reduction, mask, weights=weights)


def _binary_labels(name: str, labels: ArrayLike, logits: Array) -> Array:
    labels = _checks.reals(name, "labels", labels)
    hint = "Each logit has one binary label."
    return _checks.broadcastable(name, "labels", labels, logits.shape, hint=hint)


def _binary_value(_, z: Array, t: Array, w: Array | None) -> Array:
    z = z.astype(t.dtype)
    positive = t if w is None else w * t
    # Where a label is 0 or 1, an infinite term with the factor 0 is 0.
    return product(positive, softplus(-z)) + product(1 - t, softplus(z))


# dz = (1 - t) s(z) - w t s(-z).  Proof: sigmoid_binary_cross_entropy
def _binary_backward(_, args, g: Array):
    z, t, w = args
    x = z.astype(t.dtype)
    up, down = sigmoid(x), sigmoid(-x)
    pull = t * down if w is None else w * t * down
    slope = -x if w is None else _slope_by_label(x, w)
    g_w = None if w is None else to_argument(times(g, product(t, softplus(-x))), w)
    g_z = g * ((1 - t) * up - pull)
    return g_z.astype(z.dtype), to_argument(times(g, slope), t), g_w


# The residuals leave enough buffers that a gradient which XLA:CPU computes twice needs no more.
_binary = closed_form(lambda *_: None, _binary_value, _binary_backward, gradient_once=False)


def _slope_by_label(x: Array, w: Array) -> Array:
    """Returns w softplus(-x) - softplus(x), for finite x as (w - 1) softplus(-x) - x."""
    at_infinity = product(w, softplus(-x)) - softplus(x)
    return jnp.where(jnp.isfinite(x), (w - 1) * softplus(-x) - x, at_infinity)


@in_both_modes
def sigmoid_focal_loss(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*#shape"],
    alpha: float | Float[ArrayLike, "*#shape"] | None = None,
    gamma: float | Float[ArrayLike, ""] = 2.0,
) -> Float[Shaped, "*shape"]:
    """Binary focal loss: ``a_t u^gamma L``, L the binary cross-entropy.

    ``u = t s(-z) + (1 - t) s(z)`` is the probability of the wrong class, that is ``1 - p_t`` in the
    notation of the paper. ``a_t = a t + (1 - a) (1 - t)``, and s is the sigmoid.

    Args:
        logits: any shape, floating-point, in nats: log-odds.
        labels: t, the probabilities of the positive class, broadcast to the logits.
        alpha: a in [0, 1], the weight of the positive class, broadcast to the logits;
            None for no weights.
        gamma: the exponent, at least 0; 0 gives binary cross-entropy.

    Returns:
        Losses in nats with the shape of ``logits``; float32 for half precision.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape or a range is wrong.

    Gradient: ``a_t u^gamma (gamma r L + s(z) - t)`` with
    ``r = d log u / dz = (1 - 2t) s(z) s(-z) / u``. Labels, alpha and gamma have gradients too.
    Proof: ``sigmoid_focal_loss``. Source: Lin et al. (2017), "Focal Loss for Dense Object
    Detection".

    >>> round(float(sigmoid_focal_loss(jnp.array(0.0), 1)), 4)
    0.1733
    """
    name = "sigmoid_focal_loss"
    logits = _checks.floats(name, "logits", logits)
    labels = _binary_labels(name, labels, logits)
    gamma = _checks.scalar(name, "gamma", gamma, 0)
    if alpha is not None:
        if isinstance(alpha, int | float):
            alpha = _checks.scalar(name, "alpha", alpha, 0, 1)
        alpha = _checks.reals(name, "alpha", alpha)
        alpha = _checks.broadcastable(name, "alpha", alpha, logits.shape)
    return _binary_focal_loss(mode, logits, labels, alpha, gamma)


@functools.partial(jax.jit, static_argnums=0)
def _binary_focal_loss(
    mode: Mode, logits: Array, labels: Array, alpha: Array | None, gamma: Any
) -> Array:
    t = labels.astype(accumulator(logits.dtype))
    gamma = jnp.asarray(gamma, t.dtype)
    if alpha is None:
        return _focal(mode, logits, t, gamma, None)
    return _focal(mode, logits, t, gamma, alpha.astype(t.dtype))


def _focal_value(_, z: Array, t: Array, gamma: Array, alpha: Array | None) -> Array:
    focal = _modulator(z.astype(t.dtype), t, gamma) * _binary_value(None, z, t, None)
    return focal if alpha is None else product(alpha * t + (1 - alpha) * (1 - t), focal)


# dz = a_t u^gamma (gamma r L + (1 - t) s(z) - t s(-z)).  Proof: sigmoid_focal_loss
def _focal_backward(_, args, g: Array):
    z, t, gamma, alpha = args
    x = z.astype(t.dtype)
    loss = _binary_value(None, z, t, None)
    modulator = _modulator(x, t, gamma)
    pull = (1 - t) * sigmoid(x) - t * sigmoid(-x)
    by_z = modulator * (gamma * product(_log_slope(x, t), loss) + pull)
    by_t = product(gamma, _log_slope_by_label(x, t) * loss) - x
    by_t = modulator * masked(modulator, by_t)
    # log u is infinite only where the loss is 0, and their product is 0 there.
    by_gamma = modulator * product(bounded(loss, _log_wrong(x, t)), loss)
    g_alpha = None
    if alpha is not None:
        balance, focal = alpha * t + (1 - alpha) * (1 - t), modulator * loss
        by_z, by_gamma = balance * by_z, product(balance, by_gamma)
        by_t = product(balance, by_t) + product(2 * alpha - 1, focal)
        g_alpha = to_argument(times(g, product(2 * t - 1, focal)), alpha)
    g_z, g_t, g_gamma = (times(g, slope) for slope in (by_z, by_t, by_gamma))
    return g_z.astype(z.dtype), to_argument(g_t, t), to_argument(g_gamma, gamma), g_alpha


_focal = closed_form(lambda *_: None, _focal_value, _focal_backward)


@jax.custom_jvp
def softplus(x: Array) -> Array:
    """Returns log(1 + exp(x)); its derivative is ``sigmoid``, without a kink at 0."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (v,) = primals, tangents
    return softplus(x), sigmoid(x) * v


@jax.custom_jvp
def sigmoid(x: Array) -> Array:
    """Returns 1 / (1 + exp(-x)); its derivative is s(x) s(-x), because s (1 - s) cancels."""
    q = jnp.exp(-jnp.abs(x))
    return jnp.where(x >= 0, jnp.ones((), x.dtype), q) / (1 + q)


@sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    (x,), (v,) = primals, tangents
    s = sigmoid(x)
    return s, s * sigmoid(-x) * v


def _wrong(x: Array, t: Array) -> tuple[Array, Array]:
    """Returns u = t s(-x) + (1 - t) s(x), and the value that u tends to for large |x|."""
    q = jnp.exp(-jnp.abs(x))
    kept = jnp.where(x >= 0, 1 - t, t)
    return (kept + (1 - kept) * q) / (1 + q), kept


@jax.custom_jvp
def _modulator(x: Array, t: Array, gamma: Array) -> Array:
    """Returns u^gamma."""
    return jnp.power(_wrong(x, t)[0], gamma)


@_modulator.defjvp
def _modulator_jvp(primals, tangents):
    x, t, gamma = primals
    v, t_dot, gamma_dot = tangents
    modulator = _modulator(x, t, gamma)
    rate = gamma * (_log_slope(x, t) * v + _log_slope_by_label(x, t) * t_dot)
    rate = rate + times(gamma_dot, _log_wrong(x, t))
    return modulator, weighed(modulator, rate)


@jax.custom_jvp
def _log_wrong(x: Array, t: Array) -> Array:
    """Returns log u, which is finite even if u underflows."""
    q = jnp.exp(-jnp.abs(x))
    _, kept = _wrong(x, t)
    mixed = jnp.log(jnp.where(kept == 0, jnp.ones((), x.dtype), kept + (1 - kept) * q))
    return jnp.where(kept == 0, -jnp.abs(x), mixed) - jnp.log1p(q)


@_log_wrong.defjvp
def _log_wrong_jvp(primals, tangents):
    x, t = primals
    v, t_dot = tangents
    return _log_wrong(x, t), _log_slope(x, t) * v + _log_slope_by_label(x, t) * t_dot


@jax.custom_jvp
def _log_slope(x: Array, t: Array) -> Array:
    """Returns r = d log u / dx = (1 - 2t) s(x) s(-x) / u.

    Where x has the sign of a label of 0 or 1, u is a multiple of exp(-|x|), which is cancelled.
    """
    q = jnp.exp(-jnp.abs(x))
    _, kept = _wrong(x, t)
    one = jnp.ones((), x.dtype)
    ratio = q / (jnp.where(kept == 0, one, kept) + (1 - kept) * q)
    return (1 - 2 * t) * jnp.where(kept == 0, one, ratio) / (1 + q)


@_log_slope.defjvp
def _log_slope_jvp(primals, tangents):
    x, t = primals
    v, t_dot = tangents
    r, u = _log_slope(x, t), _at_least_tiny(_wrong(x, t)[0])
    up, down = sigmoid(x), sigmoid(-x)
    return r, r * (down - up - r) * v - (up / u) * (down / u) * t_dot


@jax.custom_jvp
def _log_slope_by_label(x: Array, t: Array) -> Array:
    """Returns d log u / dt = (s(-x) - s(x)) / u."""
    return (sigmoid(-x) - sigmoid(x)) / _at_least_tiny(_wrong(x, t)[0])


@_log_slope_by_label.defjvp
def _log_slope_by_label_jvp(primals, tangents):
    x, t = primals
    v, t_dot = tangents
    slope, u = _log_slope_by_label(x, t), _at_least_tiny(_wrong(x, t)[0])
    return slope, -(sigmoid(x) / u) * (sigmoid(-x) / u) * v - slope * (slope * t_dot)


def _at_least_tiny(u: Array) -> Array:
    """Returns u, or the smallest normal number if that is larger, so that quotients are finite."""
    return jnp.maximum(u, jnp.finfo(u.dtype).tiny)
