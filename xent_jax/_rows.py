"""Row statistics: the few numbers per example from which every closed form follows.

Logits stand classes last, ``z[..., k]``. All is relative to the row's largest logit m,
a constant in every derivative, since nothing here depends on the shift:

    E_j = exp(z_j - m)      S = sum_j E_j      p = E / S      lse = m + log S

Where the classes are divided over shards, z is a slice of them, ``y`` counts from the first
class of the slice, and the statistics are those of all classes, the same in every shard: m is
the largest of the shards' maxima, and each sum relative to it the sum of the shards' sums.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _shards
from xent_jax._types import AxisName


class Label(NamedTuple):
    """The statistics of a row with an integer label."""

    others: Array  # A = S - E_y, summed without the label
    own: Array  # E_y
    loss: Array  # -log p_y


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """What forward and backward share, one number per example each."""

    shift: Array  # m
    total: Array  # S
    log_total: Array  # log S, relative to m: right where S is next to 1
    label: Label | None
    axis_name: AxisName | None = dataclasses.field(metadata={"static": True})  # of the classes

    def whole(self, g: Array) -> Array:
        """The cotangent of what the shards computed together, from that of one's copy."""
        return _shards.cotangent(g, self.axis_name)


def accumulator(dtype) -> jnp.dtype:
    """float32 for half precision, else the dtype itself."""
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)


def hits(z: Array, y: Array) -> Array:
    """[..., k] booleans: whether a class is the row's label."""
    # One row of indices, broadcast: a [..., k] iota would be hoisted out of a caller's
    # loop into memory.
    return lax.broadcasted_iota(y.dtype, (1,) * y.ndim + z.shape[-1:], y.ndim) == y[..., None]


def at_label(x: Array, y: Array, axis_name: AxisName | None) -> Array:
    """x_y, for x ``[..., k]`` or ``[k]``; with ``axis_name``, from the shard that holds it."""
    zero = jnp.zeros((), x.dtype)
    if not _shards.gathers(x, y):
        hit = hits(x, y)
        hit, x = _shards.together(hit, x.reshape((1,) * (hit.ndim - x.ndim) + x.shape))
        return _shards.total(jnp.sum(jnp.where(hit, x, zero), axis=-1), axis_name)
    here = None if axis_name is None else (y >= 0) & (y < x.shape[-1])
    near = y if here is None else jnp.where(here, y, jnp.zeros((), y.dtype))
    if x.ndim == 1 and y.ndim != 0:
        own = _shards.take(x, near)
    else:
        own = jnp.take_along_axis(x, near[..., None], axis=-1, mode="clip")[..., 0]
    return own if here is None else _shards.total(jnp.where(here, own, zero), axis_name)


def row_shift(z: Array, axis_name: AxisName | None = None) -> Array:
    """The row's largest logit; NaN, which poisons the row, where it is not finite."""
    m = _shards.largest(lax.stop_gradient(jnp.max(z, axis=-1)), axis_name)
    m = m.astype(accumulator(z.dtype))
    return poisoned(m, jnp.isfinite(m))


def poisoned(x: Array, ok: Array) -> Array:
    """``x``, NaN where not ``ok``.

    The NaN is computed, by infinity less infinity, and only where it is due: a NaN that stood
    here as a constant would stop ``jax_debug_nans`` in the absence of any mistake.
    """
    doubt = jnp.where(ok, jnp.zeros((), x.dtype), jnp.asarray(jnp.inf, x.dtype))
    return x + (doubt - doubt)


def log1p(x: Array) -> Array:
    """log(1 + x) for x > -1/2, within 1.6 ulp, 1.3 below 1.

    XLA's float32 log1p becomes log(1 + x) near x = 0.41 and errs by 2.5 ulp from there to
    0.7, where log(3/2) + log1p((x - 1/2) / (3/2)) keeps to its accurate part.
    """
    middle = (x > 0.4) & (x < 1)
    half = jnp.asarray(0.5, x.dtype)
    near = jnp.log1p(jnp.where(middle, (x - half) / (1 + half), x))
    return near + jnp.where(middle, jnp.log(1 + half), jnp.zeros((), x.dtype))


@jax.custom_jvp
def exp_difference(z: Array, m: Array) -> Array:
    """exp(z - m) for z <= m, right to the last places however large z and m are.

    The subtraction's rounding error is recovered exactly (Knuth's TwoDiff) and put back
    to first order; uncorrected it costs |z - m| / 2 ulp.
    """
    s = z - m
    e = jnp.exp(s)
    # From here down exp(s) is zero, and at -inf the error would be NaN.
    lowest = math.log(float(jnp.finfo(s.dtype).smallest_subnormal))
    z, s = jnp.where(s <= lowest, m, z), jnp.where(s <= lowest, jnp.zeros((), s.dtype), s)
    back = s - z
    error = (z - (s - back)) - (m + back)
    return e + e * error


@exp_difference.defjvp
def _exp_difference_jvp(primals, tangents):
    e = exp_difference(*primals)
    return e, e * (tangents[0] - tangents[1])


def other_exponentials(z: Array, y: Array, m: Array) -> Array:
    """E, with zero at the label."""
    e = exp_difference(z.astype(m.dtype), m[..., None])
    return jnp.where(hits(z, y), jnp.zeros((), m.dtype), e)


def exponentials(rows: Rows, z: Array, y: Array | None) -> Array:
    """E; in a row with a label its entry comes from the row statistics."""
    if y is None or rows.label is None:
        return exp_difference(z.astype(rows.shift.dtype), rows.shift[..., None])
    return jnp.where(hits(z, y), rows.label.own[..., None], other_exponentials(z, y, rows.shift))


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def row_statistics(
    z: Array, y: Array | None, shift: Array, axis_name: AxisName | None = None
) -> Rows:
    """The statistics of each row; with labels, those that keep -log p_y exact.

    log S = log1p(S - 1), where S - 1 never held the 1: with labels it is a sum without
    the label's term, or else without the largest.
    """
    wide = z.astype(shift.dtype)
    top = wide == shift[..., None]
    if y is None:
        total, excess = _sums(exp_difference(wide, shift[..., None]), top, axis_name)
        return Rows(shift, total, log1p(excess), None, axis_name)
    others, excess = _sums(other_exponentials(z, y, shift), top & ~hits(z, y), axis_name)
    # Gathered from the logits as they came: of the wide ones TPU would make an array.
    z_y = at_label(z, y, axis_name).astype(shift.dtype)
    own = exp_difference(z_y, shift)
    log_total = log1p(jnp.where(z_y >= shift, others, excess + own))
    label = Label(others, own, (shift - z_y) + log_total)
    return Rows(shift, others + own, log_total, label, axis_name)


def _sums(e: Array, top: Array, axis_name: AxisName | None) -> tuple[Array, Array]:
    """The sum of a row's exponentials, and that less 1; ``top`` marks the ones.

    A plain sum loses what lies below the last place of its partial sums, and always to
    the same side in a row of ties.
    """
    total, excess = lax.platform_dependent(
        e, top, cpu=lambda e, _: _rounded_once(e), default=_sums_beside_the_largest
    )
    if axis_name is None:
        return total, excess
    # The 1 is left out of a shard's sum, where it is in it: what is added to the rest is exact.
    held = total >= 1
    rest, ones = _shards.total((jnp.where(held, excess, total), held.astype(e.dtype)), axis_name)
    return rest + ones, rest + (ones - 1)


def _rounded_once(x: Array) -> tuple[Array, Array]:
    """The sum of terms at least 0, and that less 1, right to the last place.

    Two plain sums do it: of the terms, and of what they have beyond a grid. In units of c
    the multiples of the grid add up to a whole number, which the first sum, of about 2^17
    such units (2^46 in float64), misses by less than a half. XLA:CPU is fast at plain sums
    and slow at all that would add two numbers for each term.
    """
    info = jnp.finfo(x.dtype)
    units = 2.0**-6 / float(info.eps)
    plain = jnp.sum(x, axis=-1)
    lowest = jnp.asarray(2 * units / float(info.max), x.dtype)
    # A power of two, so that scaling rounds nothing.
    c = lax.reduce_precision(units / jnp.maximum(plain, lowest), info.nexp, 0)
    scaled = x * c[..., None]
    rest = jnp.sum(scaled - jnp.floor(scaled), axis=-1)
    whole = jnp.round(c * plain - rest)
    return (whole + rest) / c, ((whole - c) + rest) / c


def _sums_beside_the_largest(e: Array, top: Array) -> tuple[Array, Array]:
    """By a sum that reads the exponentials once: else XLA:GPU writes them to memory."""
    below_one = jnp.sum(jnp.where(top, jnp.zeros((), e.dtype), e), axis=-1)
    count = jnp.sum(top.astype(e.dtype), axis=-1)
    return below_one + count, below_one + (count - 1)


@row_statistics.defjvp
def _row_statistics_jvp(axis_name, primals, tangents):
    z, y, shift = primals
    rows = row_statistics(z, y, shift, axis_name)
    v = tangents[0].astype(shift.dtype)
    e_v = exponentials(rows, z, y) * v
    total = _over_classes(e_v, axis_name)
    label = None
    if y is not None and rows.label is not None:
        hit = hits(z, y)
        others = _over_classes(jnp.where(hit, jnp.zeros((), v.dtype), e_v), axis_name)
        v_y = _over_classes(jnp.where(hit, v, jnp.zeros((), v.dtype)), axis_name)
        loss = (others - rows.label.others * v_y) / rows.total
        label = Label(others, rows.label.own * v_y, loss)
    return rows, Rows(jnp.zeros_like(shift), total, total / rows.total, label, axis_name)


def _over_classes(x: Array, axis_name: AxisName | None) -> Array:
    return _shards.total(jnp.sum(x, axis=-1), axis_name)


@jax.custom_jvp
def probabilities(rows: Rows, z: Array, y: Array | None) -> Array:
    """p = E / S."""
    return exponentials(rows, z, y) / rows.total[..., None]


@probabilities.defjvp
def _probabilities_jvp(primals, tangents):
    p = probabilities(*primals)
    return p, hessian_product(p, tangents[1].astype(p.dtype), primals[0].axis_name)


@jax.custom_jvp
def complement(rows: Rows, z: Array) -> Array:
    """1 - p, in rows without labels; where p is next to 1, from the sum of the others."""
    e = exponentials(rows, z, None)
    only = (e == 1) & (rows.total < 2)[..., None]
    others = jnp.where(only, jnp.expm1(rows.log_total)[..., None], rows.total[..., None] - e)
    return others / rows.total[..., None]


@complement.defjvp
def _complement_jvp(primals, tangents):
    rows, z = primals
    p = probabilities(rows, z, None)
    return complement(rows, z), -hessian_product(p, tangents[1].astype(p.dtype), rows.axis_name)


def hessian_product(p: Array, v: Array, axis_name: AxisName | None = None) -> Array:
    """H v for H = diag(p) - p p', the Jacobian of softmax and Hessian of log-sum-exp.

    H = C' (diag(p') - p' p'') C with C = I - 1 r', for any r that sums to 1: r is the
    dominant class where one has p > 1/2, with p' = p but for a zero there, else r = p' = p.
    Every difference is then taken between entries of v, and none cancels; p * (v - <p, v>)
    is 100 % wrong on confident rows. The map is its own transpose, term by term.
    """

    def total(x: Array) -> Array:
        return _over_classes(x, axis_name)[..., None]

    zero = jnp.zeros((), p.dtype)
    dominant = p > 0.5
    one_is = _shards.anywhere(jnp.any(dominant, axis=-1, keepdims=True), axis_name)
    r = jnp.where(one_is, dominant.astype(p.dtype), p)
    rest = jnp.where(dominant, zero, p)
    w = v - total(r * v)
    u = rest * (w - total(rest * w))
    return u - r * total(u)
