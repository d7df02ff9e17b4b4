"""60-digit references for the losses and their derivatives, and errors in ulp."""

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
    """The very numbers that an array holds, as FLINT's real numbers of 60 digits."""
    return np.asarray(_exact(np.asarray(x)), dtype=object)


def rounded(x: np.ndarray, dtype) -> np.ndarray:
    """Exact numbers, each rounded once, to nearest even; not for results below the normal."""

    def nearest(v):
        whole, exponent = v.mid().man_exp()
        more = max(0, whole.bit_length() - jnp.finfo(dtype).nmant - 1)
        return round(Fraction(int(whole), 2**more)) * arb(2) ** (exponent + more)

    return np.frompyfunc(nearest, 1, 1)(x)


def ulps(got, want, scale=None, dtype=None) -> np.ndarray:
    """|got - want| in units of the last place that ``scale``, or ``want``, has in got's dtype.

    Or in another ``dtype``. Where the scale is below the smallest normal number a result need
    only be that small too, where ``want`` is beyond the largest it must be infinite; there
    the error is 0, else inf.
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
        return 0.0  # to an infinite result's terms no finite number makes a difference
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
    gap: np.ndarray  # m - z in float64, what a class lies below the largest; 0 for one of -inf

    @property
    def lse(self) -> arb:
        """log sum exp(z) = m + log S."""
        return self.shift + self.log_total

    @property
    def lse_scale(self) -> arb:
        """|m| + log S: log-sum-exp itself, unless its two terms cancel."""
        return abs(self.shift) + self.log_total


def softmax(z) -> Softmax:
    """From the logits as they are stored; -inf among them is a class of probability 0."""
    z = np.asarray(z)
    if z.dtype != object:
        z = z.astype(np.float64)
    # Equal logits share one exponential, which is what takes the time.
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
    """The target of an integer label."""
    return (np.arange(k) == y).astype(np.float64)


class Loss(NamedTuple):
    """A loss and its gradient, each with the sum or the larger of the terms it is made of."""

    loss: arb
    loss_scale: arb
    gradient: np.ndarray
    gradient_scale: np.ndarray
    gap: np.ndarray  # that of the softmax


def cross_entropy(z, t, c=0.0) -> Loss:
    """``T lse + c lse^2 - <t, z>`` and ``(T + 2 c lse) p - t``, with ``T = sum(t)``."""
    row, z, t, c = softmax(z), exact(z), exact(t), exact(c).item()
    mass = sum(t, arb(0))
    spread = sum((t[j] * (row.shift - z[j]) for j in np.flatnonzero(t != 0)), arb(0))
    loss = spread + mass * row.log_total
    # T p_j - t_j = (T - t_j) p_j - t_j (1 - p_j), which cannot cancel for a one-hot t.
    gradient = (mass - t + 2 * c * row.lse) * row.p - t * row.rest
    terms = np.maximum((mass + 2 * c * row.lse_scale) * row.p, t)
    scale = np.maximum(terms, abs(gradient))  # the larger where a negative lse makes them add
    return Loss(loss + c * row.lse**2, loss + c * row.lse_scale**2, gradient, scale, row.gap)


class Divergence(NamedTuple):
    """A divergence and its gradients, each with the size of the terms it is made of."""

    loss: arb
    loss_scale: arb
    gradients: tuple[np.ndarray, ...]  # to z, w, T, and beta if there is one
    scales: tuple[np.ndarray, ...]
    gap: float  # what the last class lies below the first, in nats at that temperature


def _two_rows(z, w, t):
    """Returns the logits over t less their largest, q, p, log(p / q), and the size of its terms."""
    x, y = ((exact(row) - exact(np.max(row))) / t for row in (z, w))  # exactly 0 at the largest
    q, p = softmax(x), softmax(y)
    kappa = p.log_total - q.log_total
    d, e = y - x - kappa, arb.exp(kappa)
    size = abs(y - x) + abs(kappa) + sum(abs(p.p * e - q.p)) / max(1, e)
    return x, y, q, p, d, size


def softmax_divergence(z, w, temperature) -> Divergence:
    """KL(softmax(w / T) || softmax(z / T)); a term is of the size of what z and w differ by."""
    t = exact(temperature).item()
    x, y, q, p, d, size = _two_rows(z, w, t)
    top = np.argmax(p.p)
    relative = d - d[top]  # of which no constant makes a difference, and nothing cancels at the top
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
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q; to z, w, T and beta.

    The scale of log(p / m) is itself and what its derivative by log(p / q) makes of the size of
    that one's terms, which z and w differ by; and that of log(q / m) likewise.
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
    """``p (x - <p, x>)``, of which nothing cancels where p is largest."""
    relative = x - x[np.argmax(p)]
    return p * (relative - p @ relative)


def hessian(z) -> np.ndarray:
    """``diag(p) - p p'``."""
    row = softmax(z)
    out = -np.outer(row.p, row.p)
    np.fill_diagonal(out, row.p * row.rest)
    return out


def hessian_product(z, v) -> tuple[np.ndarray, np.ndarray]:
    """``H v`` and ``sum_i |H_ji| |v_i - v_j|``, for each j."""
    p, v = softmax(z).p, np.asarray(v, np.float64)
    # v less its entry at the largest logit changes nothing, and then no confidence is too high.
    relative = exact(v) - exact(v[np.argmax(p)])
    spread = np.abs(v[:, None] - v) @ p.astype(np.float64)  # a scale need not be exact
    return p * (relative - p @ relative), p * exact(spread)


def binary_cross_entropy(z, t, w=1.0) -> Loss:
    """``-w t log s(z) - (1 - t) log s(-z)`` and ``(1 - t) s(z) - w t s(-z)``, s the sigmoid."""
    z, t, w = (exact(x).item() for x in (z, t, w))
    loss = w * t * arb.log1p(arb.exp(-z)) + (1 - t) * arb.log1p(arb.exp(z))
    up, down = (1 - t) / (1 + arb.exp(-z)), w * t / (1 + arb.exp(z))
    return Loss(loss, loss, up - down, max(up, down), np.zeros(1))
