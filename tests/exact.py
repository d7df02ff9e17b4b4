"""Computes the losses and their derivatives to 60 digits, and errors of results in ulp."""

from fractions import Fraction
from typing import NamedTuple

import flint
import jax.numpy as jnp
import numpy as np
from flint import arb

flint.ctx.dps = 60

_exp = np.frompyfunc(arb.exp, 1, 1)
_exact = np.frompyfunc(lambda x: x if isinstance(x, arb) else arb(float(x)), 1, 1)


def exact(x) -> np.ndarray:
    """Returns exactly the numbers that an array holds, as FLINT's real numbers of 60 digits."""
    return np.asarray(_exact(np.asarray(x)), dtype=object)


def rounded(x: np.ndarray, dtype) -> np.ndarray:
    """Rounds exact numbers once to a dtype, to nearest even; results must not be subnormal."""

    def nearest(v):
        whole, exponent = v.mid().man_exp()
        more = max(0, whole.bit_length() - jnp.finfo(dtype).nmant - 1)
        return round(Fraction(int(whole), 2**more)) * arb(2) ** (exponent + more)

    return np.frompyfunc(nearest, 1, 1)(x)


def ulps(got, want, scale=None, dtype=None) -> np.ndarray:
    """Returns |got - want| in units of the last place of ``scale``, which by default is ``want``.

    The places are those of ``dtype``, by default got's. Where the scale is below the smallest
    normal number, the error is 0 if the result is not above that number, else inf. Where ``want``
    is beyond the largest number, the error is 0 if the result is infinite, else inf.
    """
    got, want = np.asarray(got), np.asarray(want, dtype=object)
    scale = np.abs(want if scale is None else np.asarray(scale, dtype=object))
    info = jnp.finfo(got.dtype if dtype is None else dtype)
    measure = np.frompyfunc(lambda *x: _ulps(*x, info), 3, 1)
    return np.asarray(measure(got, want, scale), dtype=np.float64)


def _ulps(got, want, scale, info) -> float:
    got, tiny = float(got), float(info.smallest_normal)
    if not np.isfinite(got) or abs(want) > float(info.max):
        overflows = abs(want) >= (1 - arb(2) ** (-info.nmant - 2)) * arb(2) ** info.maxexp
        return 0.0 if overflows and got == (np.inf if want > 0 else -np.inf) else np.inf
    if scale == np.inf:
        return 0.0  # beside infinite terms, no finite error matters
    if scale < tiny:
        return 0.0 if abs(got) <= tiny else np.inf
    whole, exponent = scale.upper().man_exp()
    last_place = exponent + whole.bit_length() - info.nmant - 1
    return float((abs(got - want) * arb(2) ** -last_place).upper())


class Softmax(NamedTuple):
    """The softmax of a row of logits, each number to full relative precision."""

    shift: arb  # m, the largest logit
    log_total: arb  # log S, S the sum of exp(z - m)
    p: np.ndarray
    rest: np.ndarray  # 1 - p
    gap: np.ndarray  # m - z in float64: how far a class is below the largest; 0 where z is -inf

    @property
    def lse(self) -> arb:
        """The log-sum-exp of the logits, m + log S."""
        return self.shift + self.log_total

    @property
    def lse_scale(self) -> arb:
        """The sum of the sizes of the terms of ``lse``, |m| + log S."""
        return abs(self.shift) + self.log_total


def softmax(z) -> Softmax:
    """Returns the softmax of the logits as stored; a logit of -inf has the probability 0."""
    z = np.asarray(z)
    if z.dtype != object:
        z = z.astype(np.float64)
    # Exponentials take most of the time, so equal logits share one.
    values, where, counts = np.unique(z, return_inverse=True, return_counts=True)
    values = exact(values)
    e = _exp(values - values[-1])
    counts[-1] -= 1  # all but one of the largest
    others = sum(e * counts, arb(0))
    total = 1 + others
    rest = (total - e) / total
    rest[-1] = others / total
    gap = np.where(e == 0, 0, values[-1] - values).astype(np.float64)
    found = ((e / total), rest, gap)
    return Softmax(values[-1], arb.log1p(others), *(x[where.reshape(-1)] for x in found))


def onehot(y: int, k: int) -> np.ndarray:
    """Returns the one-hot target of an integer label."""
    return (np.arange(k) == y).astype(np.float64)


class Loss(NamedTuple):
    """A loss and its gradient, each with the sum or the larger of the sizes of its terms."""

    loss: arb
    loss_scale: arb
    gradient: np.ndarray
    gradient_scale: np.ndarray
    gap: np.ndarray  # the gap of the softmax


def cross_entropy(z, t, c=0.0) -> Loss:
    """Returns ``T lse + c lse^2 - <t, z>`` and ``(T + 2 c lse) p - t``, with ``T = sum(t)``."""
    row, z, t, c = softmax(z), exact(z), exact(t), exact(c).item()
    mass = sum(t, arb(0))
    spread = sum((t[j] * (row.shift - z[j]) for j in np.flatnonzero(t != 0)), arb(0))
    loss = spread + mass * row.log_total
    # T p_j - t_j = (T - t_j) p_j - t_j (1 - p_j), which cannot cancel for a one-hot t.
    gradient = (mass - t + 2 * c * row.lse) * row.p - t * row.rest
    terms = np.maximum((mass + 2 * c * row.lse_scale) * row.p, t)
    scale = np.maximum(terms, abs(gradient))  # a negative lse can make the terms add up
    return Loss(loss + c * row.lse**2, loss + c * row.lse_scale**2, gradient, scale, row.gap)


class Divergence(NamedTuple):
    """A divergence and its gradients, each with the size of its terms."""

    loss: arb
    loss_scale: arb
    gradients: tuple[np.ndarray, ...]  # to z, w, T, and beta if there is one
    scales: tuple[np.ndarray, ...]
    gap: float  # how far the least likely class is below the likeliest, in nats


def _two_rows(z, w, t):
    """Returns the logits over t less their largest, q, p, log(p / q), and the size of its terms."""
    x, y = ((exact(row) - exact(np.max(row))) / t for row in (z, w))  # exactly 0 at the largest
    q, p = softmax(x), softmax(y)
    kappa = p.log_total - q.log_total
    d, e = y - x - kappa, arb.exp(kappa)
    size = abs(y - x) + abs(kappa) + sum(abs(p.p * e - q.p)) / max(1, e)
    return x, y, q, p, d, size


def softmax_divergence(z, w, temperature) -> Divergence:
    """Returns KL(softmax(w / T) || softmax(z / T)), its gradients and their scales.

    In the scales, log(p / q) has the size of its terms: the differences of z / T and w / T.
    """
    t = exact(temperature).item()
    x, y, q, p, d, size = _two_rows(z, w, t)
    top = np.argmax(p.p)
    relative = d - d[top]  # a constant changes no gradient, and nothing cancels at the top
    mean = p.p @ relative
    by_w = p.p * (relative - mean) / t
    by_z = np.where((p.p > 0.5) & (q.p > 0.5), p.rest - q.rest, q.p - p.p) / t
    scales = np.maximum(p.p, q.p) * np.minimum(size, 1) / t, p.p * (size + p.p @ size) / t
    by_t = -(by_z @ x + by_w @ y)
    scale_of_t = scales[0] @ abs(x) + scales[1] @ abs(y)
    loss = p.p[top] * d[top] + sum(np.delete(p.p * d, top), arb(0))
    return Divergence(
        loss,
        p.p @ abs(d),
        (by_z, by_w, exact(by_t)),
        (*scales, exact(scale_of_t)),
        max(q.gap.max(), p.gap.max()),
    )


def softmax_jensen_shannon(z, w, temperature, beta) -> Divergence:
    """Returns beta KL(p || m) + (1 - beta) KL(q || m) and its gradients to z, w, T and beta.

    Here m = beta p + (1 - beta) q. The scale of log(p / m) is its own size, plus its derivative by
    log(p / q) times the size of the terms of log(p / q). The scale of log(q / m) is similar.
    """
    t, b = exact(temperature).item(), exact(beta).item()
    x, y, q, p, d, size = _two_rows(z, w, t)
    u = np.array([-arb.log1p((1 - b) * arb.expm1(-a)) for a in d])
    v = np.array([-arb.log1p(b * arb.expm1(a)) for a in d])
    size_u, size_v = abs(u) + (1 - b) * _exp(v) * size, abs(v) + b * _exp(u) * size
    by_z, by_w = (1 - b) * _surplus(q.p, v) / t, b * _surplus(p.p, u) / t
    scale_z = (1 - b) * q.p * (size_v + q.p @ size_v) / t
    scale_w = b * p.p * (size_u + p.p @ size_u) / t
    scale_t = (scale_z @ abs(x) + scale_w @ abs(y)) / t
    return Divergence(
        b * p.p @ u + (1 - b) * q.p @ v,
        b * p.p @ size_u + (1 - b) * q.p @ size_v,
        (by_z, by_w, exact(-(by_z @ x + by_w @ y) / t), exact(p.p @ u - q.p @ v)),
        (scale_z, scale_w, exact(scale_t), exact(p.p @ size_u + q.p @ size_v)),
        max(q.gap.max(), p.gap.max()),
    )


def _surplus(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Returns ``p (x - <p, x>)``, computed so that nothing cancels where p is largest."""
    relative = x - x[np.argmax(p)]
    return p * (relative - p @ relative)


def hessian(z) -> np.ndarray:
    """Returns the Hessian of log-sum-exp, ``diag(p) - p p'``."""
    row = softmax(z)
    out = -np.outer(row.p, row.p)
    np.fill_diagonal(out, row.p * row.rest)
    return out


def hessian_product(z, v) -> tuple[np.ndarray, np.ndarray]:
    """Returns ``H v``, and its scale ``sum_i |H_ji| |v_i - v_j|`` for each j."""
    p, v = softmax(z).p, np.asarray(v, np.float64)
    # Subtracting v's entry at the largest logit changes nothing, and avoids cancellation if p is 1.
    relative = exact(v) - exact(v[np.argmax(p)])
    spread = np.abs(v[:, None] - v) @ p.astype(np.float64)  # a scale need not be exact
    return p * (relative - p @ relative), p * exact(spread)


def binary_cross_entropy(z, t, w=1.0) -> Loss:
    """Returns ``-w t log s(z) - (1 - t) log s(-z)``, with s the sigmoid, and its gradient."""
    z, t, w = (exact(x).item() for x in (z, t, w))
    loss = w * t * arb.log1p(arb.exp(-z)) + (1 - t) * arb.log1p(arb.exp(z))
    up, down = (1 - t) / (1 + arb.exp(-z)), w * t / (1 + arb.exp(z))
    return Loss(loss, loss, up - down, max(up, down), np.zeros(1))
