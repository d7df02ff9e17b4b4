"""Entropy, cross-entropy and divergences of distributions, with 0 log 0 = 0."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float

from xent_jax import _checks
from xent_jax._closed_form import closed_form, to_argument
from xent_jax._layout import Layout, layout_of
from xent_jax._modes import Mode, in_both_modes
from xent_jax._types import Axis, accumulator
from xent_jax._zero import bounded, log, masked, product, ratio, times


@in_both_modes
def entropy(mode: Mode, p: Float[ArrayLike, "*shape"], axis: Axis = -1) -> Float[Shaped, "*batch"]:
    """Entropy: ``H(p) = -sum_j p_j log p_j``, the mean length of the best code for p.

    Args:
        p: ``[*batch, classes]``, floating-point: probabilities. They need not sum to 1; a
            negative one gives NaN.
        axis: the class axis or axes; None for all axes.

    Returns:
        ``[*batch]``, in nats; float32 for half precision, else the dtype of ``p``.

    Raises:
        TypeError: ``p`` is not floating-point. ValueError: ``axis`` does not fit.

    Gradient: ``-(log p + 1)``, which is +inf at ``p_j = 0``. There a cotangent of 0 gives 0, and
    the gradient through ``softmax`` is 0. Proof: ``entropy``. Source: Shannon (1948), "A
    mathematical theory of communication".

    >>> round(float(entropy(jnp.array([0.5, 0.5, 0.0]))), 4)
    0.6931
    """
    p = _checks.floats("entropy", "p", p)
    return _entropy_at(mode, p, layout_of("entropy", p, axis, None, "p"))


@functools.partial(jax.jit, static_argnums=0)
def _entropy_at(mode: Mode, p: Array, layout: Layout) -> Array:
    return _entropy(mode, layout.classes_last(p))


def _entropy_value(_, p: Array) -> Array:
    p = p.astype(accumulator(p.dtype))
    return jnp.sum(-p * masked(p, jnp.log(p)), axis=-1)


# dp = -(log p + 1) g.  Proof: entropy
def _entropy_backward(_, args, g: Array):
    (p,) = args
    return (times(g[..., None], -(log(p.astype(g.dtype)) + 1)).astype(p.dtype),)


_entropy = closed_form(lambda *_: None, _entropy_value, _entropy_backward)


@in_both_modes
def cross_entropy(
    mode: Mode, p: Float[ArrayLike, "*shape"], q: Float[ArrayLike, "*shape"], axis: Axis = -1
) -> Float[Shaped, "*batch"]:
    """Cross-entropy: ``H(p, q) = -sum_j p_j log q_j``, the mean length of q's code under p.

    This is a function of two distributions. For logits, see ``softmax_cross_entropy``.

    Args:
        p: ``[*batch, classes]``, floating: the true distribution.
        q: the estimated distribution; ``p`` and ``q`` broadcast to each other.
        axis: the class axis or axes; None for all axes.

    Returns:
        ``[*batch]``, in nats; float32 for half precision. +inf if q_j = 0 < p_j for some j.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape or ``axis`` does not fit.

    Gradient: ``-log q`` to p, ``-p / q`` to q (0 where p_j = 0). Proof: ``cross_entropy``.
    Source: Cover and Thomas (2006), "Elements of Information Theory",
    section 5.4.

    >>> round(float(cross_entropy(jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5]))), 4)
    0.6931
    """
    return _cross_entropy_at(mode, *_two_distributions("cross_entropy", "p", p, "q", q, axis))


@functools.partial(jax.jit, static_argnums=0)
def _cross_entropy_at(mode: Mode, p: Array, q: Array, layout: Layout) -> Array:
    return _cross_entropy(mode, *_laid_out(p, q, layout))


def _cross_entropy_value(_, p: Array, q: Array) -> Array:
    return jnp.sum(-p * masked(p, jnp.log(q)), axis=-1)


# dp = -log q g, dq = -p / q g.  Proof: cross_entropy
def _cross_entropy_backward(_, args, g: Array):
    p, q = args
    g = g[..., None]
    return to_argument(times(g, -log(q)), p), to_argument(times(g, -ratio(p, q)), q)


_cross_entropy = closed_form(lambda *_: None, _cross_entropy_value, _cross_entropy_backward)


@in_both_modes
def relative_entropy(
    mode: Mode, p: Float[ArrayLike, "*shape"], q: Float[ArrayLike, "*shape"], axis: Axis = -1
) -> Float[Shaped, "*batch"]:
    """Relative entropy: ``KL(p || q) = sum_j p_j log(p_j / q_j) = H(p, q) - H(p)``.

    Args:
        p: ``[*batch, classes]``, floating: the true distribution.
        q: the estimated distribution; ``p`` and ``q`` broadcast to each other.
        axis: the class axis or axes; None for all axes.

    Returns:
        ``[*batch]``, in nats; float32 for half precision. +inf if q_j = 0 < p_j for some j.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape or ``axis`` does not fit.

    Gradient: ``log(p / q) + 1`` to p (-inf at p_j = 0, even if q_j = 0), ``-p / q`` to q (0 where
    p_j = 0). Proof: ``relative_entropy``. Source: Kullback and Leibler (1951), "On
    Information and Sufficiency".

    >>> round(float(relative_entropy(jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5]))), 4)
    0.6931
    """
    return _relative_at(mode, *_two_distributions("relative_entropy", "p", p, "q", q, axis))


@functools.partial(jax.jit, static_argnums=0)
def _relative_at(mode: Mode, p: Array, q: Array, layout: Layout) -> Array:
    return _relative(mode, *_laid_out(p, q, layout))


def _relative_value(_, p: Array, q: Array) -> Array:
    return jnp.sum(p * masked(p, _log_ratio(p, masked(p, q, 1.0))), axis=-1)


# dp = (log(p / q) + 1) g, dq = -p / q g.  Proof: relative_entropy
def _relative_backward(_, args, g: Array):
    p, q = args
    g = g[..., None]
    by_p, by_q = _log_ratio(p, q) + 1, -ratio(p, q)
    return to_argument(times(g, by_p), p), to_argument(times(g, by_q), q)


_relative = closed_form(lambda *_: None, _relative_value, _relative_backward)


@in_both_modes
def kl_divergence(
    mode: Mode,
    log_predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
) -> Float[Shaped, "*batch"]:
    """KL divergence of predictions from targets: ``sum_j t_j (log t_j - l_j)``.

    Args:
        log_predictions: l, ``[*batch, classes]``, floating-point, in nats.
        targets: t, probabilities; the two broadcast to each other.
        axis: the class axis or axes; None for all axes.
        where: booleans with the shape of the batch, or booleans that broadcast to the
            predictions: what takes part.

    Returns:
        ``[*batch]``, in nats; float32 for half precision. +inf if a class
        with a positive target has the log-prediction -inf.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape or ``axis`` does not fit.

    Gradient: ``-t`` to the log-predictions, ``log t - l + 1`` to the targets (-inf at
    t_j = 0, even if l_j = -inf). Proof: ``kl_divergence``. Source: Kullback and Leibler (1951).

    >>> round(float(kl_divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 0.0]))), 4)
    0.6931
    """
    given = ("log_predictions", log_predictions, "targets", targets)
    return _kl_at(mode, *_two_distributions("kl_divergence", *given, axis, where))


@functools.partial(jax.jit, static_argnums=0)
def _kl_at(mode: Mode, log_predictions: Array, targets: Array, layout: Layout) -> Array:
    log_q, t = _laid_out(log_predictions, targets, layout)
    # Masked targets become 1, because 1 log 1 is 0 and has a finite derivative, unlike 0 log 0.
    return _kl(mode, layout.clear(log_q, 0.0), layout.clear(t, 1.0))


def _kl_value(_, log_q: Array, t: Array) -> Array:
    return jnp.sum(t * masked(t, jnp.log(t) - masked(t, log_q)), axis=-1)


# dl = -t g, dt = (log t - l + 1) g.  Proof: kl_divergence
def _kl_backward(_, args, g: Array):
    log_q, t = args
    g = g[..., None]
    # At t = 0 the derivative is -inf, even if the log-prediction is -inf.
    by_t = log(t) - bounded(t, log_q) + 1
    return to_argument(-t * g, log_q), to_argument(times(g, by_t), t)


_kl = closed_form(lambda *_: None, _kl_value, _kl_backward)


@in_both_modes
def kl_divergence_with_log_targets(
    mode: Mode,
    log_predictions: Float[ArrayLike, "*shape"],
    log_targets: Float[ArrayLike, "*shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
) -> Float[Shaped, "*batch"]:
    """KL divergence from log-probabilities: ``sum_j exp(u_j) (u_j - l_j)``, u the log-targets.

    Args:
        log_predictions: l, ``[*batch, classes]``, floating-point, in nats.
        log_targets: u, floating-point, in nats; the two broadcast to each other.
        axis: the class axis or axes; None for all axes.
        where: booleans with the shape of the batch, or booleans that broadcast to the
            predictions: what takes part.

    Returns:
        ``[*batch]``, in nats; float32 for half precision. +inf if a class
        with a positive target has the log-prediction -inf.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape or ``axis`` does not fit.

    Gradient: ``-exp(u)`` to the log-predictions, ``exp(u) (u - l + 1)`` to the log-targets, which
    is 0 at u_j = -inf. For logits, use ``softmax_kl_divergence``. Proof:
    ``kl_divergence_with_log_targets``. Source: Kullback and Leibler (1951).

    >>> log_p = jnp.log(jnp.array([0.5, 0.5]))
    >>> round(float(kl_divergence_with_log_targets(log_p, jnp.array([0.0, -jnp.inf]))), 4)
    0.6931
    """
    given = ("log_predictions", log_predictions, "log_targets", log_targets)
    name = "kl_divergence_with_log_targets"
    return _kl_of_logs_at(mode, *_two_distributions(name, *given, axis, where))


@functools.partial(jax.jit, static_argnums=0)
def _kl_of_logs_at(mode: Mode, log_predictions: Array, log_targets: Array, layout: Layout) -> Array:
    given = _laid_out(log_predictions, log_targets, layout)
    return _kl_of_logs(mode, *(layout.clear(x, 0.0) for x in given))


def _kl_of_logs_value(_, log_q: Array, log_t: Array) -> Array:
    t = jnp.exp(log_t)
    return jnp.sum(product(t, log_t - masked(t, log_q)), axis=-1)


# dl = -exp(u) g, du = exp(u) (u - l + 1) g.  Proof: kl_divergence_with_log_targets
def _kl_of_logs_backward(_, args, g: Array):
    log_q, log_t = args
    g, t = g[..., None], jnp.exp(log_t)
    by_t = product(t, log_t - bounded(t, log_q) + 1)
    return to_argument(-t * g, log_q), to_argument(times(g, by_t), log_t)


_kl_of_logs = closed_form(lambda *_: None, _kl_of_logs_value, _kl_of_logs_backward)


@in_both_modes
def generalized_kl_divergence(
    mode: Mode,
    log_predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
) -> Float[Shaped, "*batch"]:
    """KL divergence of numbers that need not sum to 1: ``kl_divergence + sum_j (exp(l_j) - t_j)``.

    No term of the sum is negative, and the divergence is 0 if and only if ``t = exp(l)``.

    Args:
        log_predictions: l, ``[*batch, classes]``, floating-point, in nats.
        targets: t, numbers at least 0; the two broadcast to each other.
        axis: the class axis or axes; None for all axes.
        where: booleans with the shape of the batch, or booleans that broadcast to the
            predictions: what takes part.

    Returns:
        ``[*batch]``, in nats; float32 for half precision. +inf if a class
        with a positive target has the log-prediction -inf.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape or ``axis`` does not fit.

    Gradient: ``exp(l) - t`` to the log-predictions, ``log t - l`` to the targets (-inf at
    t_j = 0, even if l_j = -inf). Proof: ``generalized_kl_divergence``. Source: Bregman (1967);
    Boyd and Vandenberghe (2004), "Convex Optimization", page 90.

    >>> targets = jnp.array([1.0, 0.0])
    >>> round(float(generalized_kl_divergence(jnp.log(jnp.array([0.5, 0.5])), targets)), 4)
    0.6931
    """
    given = ("log_predictions", log_predictions, "targets", targets)
    return _general_at(mode, *_two_distributions("generalized_kl_divergence", *given, axis, where))


@functools.partial(jax.jit, static_argnums=0)
def _general_at(mode: Mode, log_predictions: Array, targets: Array, layout: Layout) -> Array:
    log_q, t = _laid_out(log_predictions, targets, layout)
    return _general(mode, layout.clear(log_q, 0.0), layout.clear(t, 1.0))


def _general_value(_, log_q: Array, t: Array) -> Array:
    kl = t * masked(t, jnp.log(t) - masked(t, log_q))
    return jnp.sum(kl + (jnp.exp(log_q) - t), axis=-1)


# dl = (exp(l) - t) g, dt = (log t - l) g.  Proof: generalized_kl_divergence
def _general_backward(_, args, g: Array):
    log_q, t = args
    g = g[..., None]
    by_q, by_t = jnp.exp(log_q) - t, log(t) - bounded(t, log_q)
    return to_argument(times(g, by_q), log_q), to_argument(times(g, by_t), t)


_general = closed_form(lambda *_: None, _general_value, _general_backward)


def _two_distributions(
    function: str, first: str, p: ArrayLike, second: str, q: ArrayLike, axis: Axis, where=None
) -> tuple[Array, Array, Layout]:
    """Checks two distributions, and returns them with the same rank, and their layout."""
    hint = "It has a number for each class. "
    p, q = (_checks.floats(function, w, x, hint) for w, x in ((first, p), (second, q)))
    try:
        shape = jnp.broadcast_shapes(p.shape, q.shape)
    except ValueError:
        raise ValueError(
            f"{function}: {first} and {second} must broadcast to each other, got "
            f"{_checks.describe(p)} and {_checks.describe(q)}."
        ) from None
    layout = layout_of(function, jax.ShapeDtypeStruct(shape, p.dtype), axis, where, first)
    p = _checks.broadcastable(function, first, p, shape)
    q = _checks.broadcastable(function, second, q, shape)
    return p, q, layout


def _laid_out(p: Array, q: Array, layout: Layout) -> tuple[Array, Array]:
    """Returns both with the classes last, in the dtype of the result."""
    dtype = max(accumulator(p.dtype), accumulator(q.dtype), key=lambda d: d.itemsize)
    return layout.classes_last(p).astype(dtype), layout.classes_last(q).astype(dtype)


@jax.custom_jvp
def _log_ratio(p: Array, q: Array) -> Array:
    """Returns log(p / q), accurate also if p is close to q; -inf where p is 0."""
    near = jnp.abs(p - q) < q / 2
    one = jnp.ones((), q.dtype)
    close = jnp.log1p(jnp.where(near, p - q, 0 * one) / jnp.where(near, q, one))
    return jnp.where(near, close, jnp.log(p) - masked(p, jnp.log(q)))


@_log_ratio.defjvp
def _log_ratio_jvp(primals, tangents):
    p, q = primals
    v, w = tangents
    one = jnp.ones((), p.dtype)
    return _log_ratio(p, q), times(v, ratio(one, p)) - times(w, ratio(one, q))
