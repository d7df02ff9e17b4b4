"""Two rows of logits compared: their softmaxes, the differences and the log-ratios of these.

At a temperature T, with p = softmax(w / T) of the target logits w and q = softmax(z / T), what is
compared is d_j = log(p_j / q_j) and p - q. A logit is read as its distance to the largest of its
row, divided by T: x for z, y for w. With Z and W the sums of exp(x) and exp(y), and D = W - Z,

    d_j = (y_j - x_j) - log(1 + D / Z)      p - q = (2 (exp(y) - exp(x)) - (p + q) D) / (Z + W)

``exp(y) - exp(x)`` comes from y - x by expm1, and D is its sum, so that two rows that are alike
leave differences of the size of what they differ by, however confident both are.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax._rows import hessian_product, row_shift
from xent_jax._shards import Shards


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pair:
    """Holds what forward and backward share of the two rows: one number per example each."""

    shift_z: Array  # the largest logit
    shift_w: Array
    total_z: Array  # sum_j exp(x_j)
    total_w: Array  # sum_j exp(y_j)
    more: Array  # D = total_w - total_z
    shards: Shards = dataclasses.field(metadata={"static": True})  # of the classes

    def whole(self, g: Array) -> Array:
        """Returns the cotangent of a result of all shards, from that of one shard's copy."""
        return self.shards.cotangent(g)


class _Row(NamedTuple):
    """Holds a row of logits relative to its largest."""

    distance: Array  # [..., k]: z - m
    lost: Array  # [..., k]: the rounding error of that subtraction
    x: Array  # [..., k]: distance / T
    e: Array  # [..., k]: exp(x), to the last places


def _row(z: Array, m: Array, temperature: Array) -> _Row:
    m = m[..., None]
    # Adding m - m, which is 0, keeps XLA from contracting a product with the subtraction, as
    # ``relative`` explains.
    z = z.astype(m.dtype) + (m - m)
    distance = z - m
    far = distance < -1e6  # the exponential is 0 there, and an infinity would become NaN
    near = jnp.where(far, m, lax.stop_gradient(z))
    rounded = near - m
    back = rounded - near
    lost = (near - (rounded - back)) - (m + back)
    x = _over(distance, temperature)
    e = jnp.exp(x)
    return _Row(distance, lost, x, e + e * (lost / temperature))


def _over(distance: Array, temperature: Array) -> Array:
    """Returns distance / T; an infinity stays infinite and has the derivative 0."""
    finite = jnp.isfinite(distance)
    zero = jnp.zeros((), distance.dtype)
    return jnp.where(finite, jnp.where(finite, distance, zero) / temperature, distance)


def _apart(z: _Row, w: _Row, temperature: Array) -> Array:
    """Returns y - x, accurate to the last places; 0 where both are -inf."""
    absent = (z.distance == -jnp.inf) & (w.distance == -jnp.inf)
    zero = jnp.zeros((), temperature.dtype)
    by = jnp.where(absent, zero, w.distance) - jnp.where(absent, zero, z.distance)
    return _over(by + (w.lost - z.lost), temperature)


@jax.custom_jvp
def difference(a: Array, b: Array, log_ratio: Array) -> Array:
    """Returns a - b, accurate to the last places, from log(a / b)."""
    larger = jnp.where(log_ratio > 0, a, -b)
    return larger * -jnp.expm1(-jnp.abs(log_ratio))


difference.defjvps(lambda v, *_: v, lambda v, *_: -v, None)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _share(x: Array, e: Array, total: Array, shards: Shards) -> Array:
    """Returns the probabilities, e / total."""
    return e / total[..., None]


@_share.defjvp
def _share_jvp(shards, primals, tangents):
    p = _share(*primals, shards)
    return p, hessian_product(p, tangents[0], shards)


@jax.custom_jvp
def _shares_apart(p: Array, q: Array, apart: Array, pair: Pair) -> Array:
    """Returns p - q, accurate to the last places, from the differences of exponentials and sums."""
    # total_z (p - q) = apart - p D and total_w (p - q) = apart - q D; both are added.
    both = (pair.total_z + pair.total_w)[..., None]
    return (2 * apart - (p + q) * pair.more[..., None]) / both


_shares_apart.defjvps(lambda v, *_: v, lambda v, *_: -v, None, None)


def statistics(
    shards: Shards, _: bool, z: Array, w: Array, temperature: Array, *others: Any
) -> Pair:
    """Returns the statistics of two rows of logits at a temperature."""
    shift_z, shift_w = (row_shift(x, shards).astype(temperature.dtype) for x in (z, w))
    of_z, of_w = _row(z, shift_z, temperature), _row(w, shift_w, temperature)
    more = difference(of_w.e, of_z.e, _apart(of_z, of_w, temperature))
    total_z, total_w, more = (shards.sum(x) for x in (of_z.e, of_w.e, more))
    return Pair(shift_z, shift_w, total_z, total_w, more, shards)


class Both(NamedTuple):
    """Holds the two rows and their differences, each ``[..., k]``."""

    x: Array
    y: Array
    p: Array
    q: Array
    less: Array  # p - q
    d: Array  # log(p / q)


def compared(pair: Pair, z: Array, w: Array, temperature: Array) -> Both:
    """Returns both rows of probabilities and their differences."""
    of_z, of_w = _row(z, pair.shift_z, temperature), _row(w, pair.shift_w, temperature)
    apart, more = _apart(of_z, of_w, temperature), pair.more
    q = _share(of_z.x, of_z.e, pair.total_z, pair.shards)
    p = _share(of_w.x, of_w.e, pair.total_w, pair.shards)
    less = _shares_apart(p, q, difference(of_w.e, of_z.e, apart), pair)
    log_ratio = jnp.where(
        more > 0, jnp.log1p(more / pair.total_z), -jnp.log1p(-more / pair.total_w)
    )
    return Both(of_z.x, of_w.x, p, q, less, apart - log_ratio[..., None])


@jax.custom_jvp
def log_ratios_to_mixture(d: Array, beta: Array) -> tuple[Array, Array]:
    """Returns log(p / m) and log(q / m) from d = log(p / q), for m = beta p + (1 - beta) q.

    With a = abs(d), and c the weight in m of the larger of p and q, they are, in this order for
    the larger and the smaller, ``-log(c + (1 - c) exp(-a))`` and ``-log(1 - c + c exp(a))``.
    """
    p_is_larger = d > 0
    a = jnp.where(p_is_larger, d, -d)
    c, other = jnp.where(p_is_larger, beta, 1 - beta), jnp.where(p_is_larger, 1 - beta, beta)
    e, less = jnp.exp(-a), other * jnp.expm1(-a)
    zero, one = jnp.zeros((), d.dtype), jnp.ones((), d.dtype)
    near = less > -0.25  # XLA:CPU's log1p of float64 loses digits from -0.29 to -0.41.
    larger = -jnp.where(near, jnp.log1p(jnp.where(near, less, zero)), jnp.log(c + other * e))
    far = e < 2.0**-80  # The inverse of e may overflow, and log(c) is small beside a.
    more = c * -jnp.expm1(-a) / jnp.where(far, one, e)
    smaller = jnp.where(far, larger - a, -jnp.log1p(jnp.where(far, zero, more)))
    return jnp.where(p_is_larger, larger, smaller), jnp.where(p_is_larger, smaller, larger)


@log_ratios_to_mixture.defjvp
def _log_ratios_to_mixture_jvp(primals, tangents):
    d, beta = primals
    d_dot, beta_dot = tangents
    u, v = log_ratios_to_mixture(d, beta)
    p, q = jnp.exp(u), jnp.exp(v)  # p / m and q / m
    by_beta = difference(p, q, d) * beta_dot
    return (u, v), ((1 - beta) * q * d_dot - by_beta, -beta * p * d_dot - by_beta)
