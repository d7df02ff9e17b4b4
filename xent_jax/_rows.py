"""Row statistics: the few numbers per example from which every value and gradient is computed.

The classes are the last axis of the logits, ``z[..., k]``. The exponentials are relative to a
number c of the row, and log S is relative to its largest logit m. Both are constants in every
derivative, because no result depends on them:

    E_j = exp(z_j - c)      S = sum_j E_j      p = E / S      lse = m + log(S / E_m)

If the classes are sharded, z holds the classes of this shard, and ``y`` counts from its first
class. The statistics are those of all classes and the same in every shard: m is the largest of the
shards' maxima, and each sum is the sum of the shards' sums.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax import _shards
from xent_jax._blocks import block_width, marked, others_in_blocks
from xent_jax._shards import WHOLE, Shards
from xent_jax._types import accumulator


class Label(NamedTuple):
    """The statistics of a row with an integer label."""

    others: Array  # A = S - E_y, summed without the label
    own: Array  # E_y
    loss: Array  # -log p_y


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """The arrays that the forward and the backward pass share, with one number per example."""

    shift: Array  # m
    origin: Array  # c
    total: Array  # S
    log_total: Array  # log(S / E_m)
    label: Label | None
    examples: Array | None  # booleans: which take part; z may be NaN at the others
    shards: Shards = dataclasses.field(metadata={"static": True})  # of the classes

    def whole(self, g: Array) -> Array:
        """Returns the cotangent of a result of all shards, from that of one shard's copy."""
        return self.shards.cotangent(g)


def hits(z: Array, y: Array) -> Array:
    """Returns booleans ``[..., k]``: whether a class is the row's label."""
    return marked(y, z.shape[-1])


def at_label(x: Array, y: Array, shards: Shards) -> Array:
    """Returns x_y ``[...]`` for x ``[..., k]`` or ``[k]``, from the shard that holds the label."""
    zero = jnp.zeros((), x.dtype)
    if not _shards.gathers(x, y):
        hit = hits(x, y)
        hit, x = _shards.together(hit, x.reshape((1,) * (hit.ndim - x.ndim) + x.shape))
        return shards.sum(jnp.where(hit, x, zero))
    here = None if not shards else (y >= 0) & (y < x.shape[-1])
    near = y if here is None else jnp.where(here, y, jnp.zeros((), y.dtype))
    if x.ndim == 1 and y.ndim != 0:
        own = _shards.take(x, near)
    else:
        own = jnp.take_along_axis(x, near[..., None], axis=-1, mode="clip")[..., 0]
    return own if here is None else shards.psum(jnp.where(here, own, zero))


def poisoned(x: Array, ok: Array) -> Array:
    """Returns ``x``, but NaN where ``ok`` is false.

    The NaN is computed as infinity minus infinity, and only where ``ok`` is false: a constant NaN
    would trigger ``jax_debug_nans`` even if every value is ok.
    """
    doubt = jnp.where(ok, jnp.zeros((), x.dtype), jnp.asarray(jnp.inf, x.dtype))
    return x + (doubt - doubt)


def row_shift(z: Array, shards: Shards = WHOLE, examples: Array | None = None) -> Array:
    """Returns m, the row's largest logit, or 0 where an example is masked."""
    m = shards.pmax(lax.stop_gradient(jnp.max(z, axis=-1)))
    return filled(m.astype(accumulator(z.dtype)), examples)


def filled(x: Array, examples: Array | None, fill: int = 0) -> Array:
    """Returns ``x``, ``[...]`` or ``[..., k]``, with ``fill`` where an example is masked."""
    if examples is None:
        return x
    examples = examples if examples.ndim == x.ndim else examples[..., None]
    return jnp.where(examples, x, jnp.asarray(fill, x.dtype))


def relative(z: Array, m: Array) -> Array:
    """Returns z - m for z of any float dtype; NaN where m is not finite.

    If z is a product that XLA computes in the same loop, XLA:CPU would subtract m from the product
    before it is rounded, although m was taken from the rounded products. So m - m, which is 0, is
    added first: whether or not XLA contracts that with the product, the sum is the rounded z.
    """
    return (z.astype(m.dtype) + (m - m)) - m


@jax.jit  # The prover knows this function by its name, and takes any number for its result.
def row_origin(m: Array) -> Array:
    """Returns c such that z - c is exact, or nearly, for every logit z of a row with maximum m.

    A rounding error of z - m would become an error of exp(z - m) of up to m - z units in the last
    place. If m is large, z - m is exact for every z whose exponential is not 0, and c is m. Else c
    is 0, so that nothing is rounded, or a whole number that keeps exp(z - c) in range.
    """
    most = 64 if jnp.finfo(m.dtype).bits == 32 else 512  # the sum of 2^20 times exp(most) is finite
    low, high = m.dtype.type(0), m.dtype.type(most)  # of NumPy: JAX's own would be traced
    return lax.select(lax.abs(m) < 4 * most, lax.floor(m - lax.clamp(low, m, high)), m)


def exponentials(rows: Rows, z: Array, y: Array | None) -> Array:
    """Returns E ``[..., k]``; the label's entry comes from the row statistics."""
    if y is None or rows.label is None:
        return lax.exp(relative(z, rows.origin[..., None]))
    others = filled(other_exponentials(z, y, rows.origin), rows.examples)
    return jnp.where(hits(z, y), rows.label.own[..., None], others)


def other_exponentials(z: Array, y: Array, c: Array) -> Array:
    """Returns E ``[..., k]`` with zero at the label."""
    return jnp.where(hits(z, y), jnp.zeros((), c.dtype), lax.exp(relative(z, c[..., None])))


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def row_statistics(
    z: Array,
    y: Array | None,
    shift: Array,
    examples: Array | None,
    shards: Shards,
    alone: bool,
) -> Rows:
    """Returns the statistics of each row; with labels, those that keep -log p_y accurate.

    log S relative to m is log1p(S / E_m - 1). The difference is not computed by subtracting the 1:
    with labels it is a sum without the label's term, and without labels a sum without the largest
    term. ``alone`` says that the exponentials themselves will not be used.
    """
    # Without labels it is faster to take both sums from one array, relative to m. The value alone
    # reads only log S, and in half precision rounding hides the errors of the other numbers.
    shared = y is None and (alone or z.dtype.itemsize < 4)
    origin = shift if shared else row_origin(shift)
    top = lax.exp(shift - origin)
    if y is None:
        e = lax.exp(relative(z, shift[..., None]))
        plain = lax.exp(relative(z, origin[..., None]))
        plain, rest = shards.sum((plain, e - lax.floor(e)))
        ties = jnp.round(plain / top - rest)  # how many logits are the largest
        log_total = lax.log1p(rest + (ties - 1))
        return Rows(shift, origin, (rest + ties) * top, log_total, None, None, shards)
    given, width = (z, y, shift, origin), block_width(z) if alone else None
    if width is None:
        others = _sum_of_others(*given)
    else:  # TPU would copy the logits to give them the shape of the blocks
        in_blocks = functools.partial(_sum_in_blocks, width)
        others = lax.platform_dependent(*given, cpu=in_blocks, default=_sum_of_others)
    others = shards.psum(others)
    # A masked example, whose logits may be NaN, gets the statistics of two tied classes, at which
    # no function of them is singular.
    others = filled(others, examples, 1)
    z_y = filled(_own_logit(z, y, shards), examples)
    gap, own = relative(z_y, shift), lax.exp(relative(z_y, origin))
    log_total = lax.log1p(jnp.where(gap >= 0, others, (others - top) + own) / top)
    label = Label(others, own, log_total - gap)
    return Rows(shift, origin, others + own, log_total, label, None, shards)


def _sum_of_others(z: Array, y: Array, _: Array, c: Array) -> Array:
    return jnp.sum(other_exponentials(z, y, c), axis=-1)


def _sum_in_blocks(width: int, z: Array, y: Array, m: Array, c: Array) -> Array:
    blocks = z.reshape(*z.shape[:-1], -1, width)
    size = lax.full_like(y, width)  # a negative label, of another shard, is in no block
    return others_in_blocks(blocks, lax.div(y, size), lax.rem(y, size), m, c)


def _own_logit(z: Array, y: Array, shards: Shards) -> Array:
    """Returns z_y. XLA:CPU would widen all of a half-precision z to gather, but not its bits."""
    if z.dtype.itemsize != 2 or shards:
        return at_label(z, y, shards)

    def by_bits(z: Array, y: Array) -> Array:
        bits = at_label(lax.bitcast_convert_type(z, jnp.uint16), y, WHOLE)
        return lax.bitcast_convert_type(bits, z.dtype)

    return lax.platform_dependent(z, y, cpu=by_bits, default=lambda z, y: at_label(z, y, WHOLE))


@row_statistics.defjvp
def _row_statistics_jvp(shards, alone, primals, tangents):
    z, y, shift, examples = primals
    rows = row_statistics(z, y, shift, examples, shards, False)
    v = tangents[0].astype(shift.dtype)
    masked = dataclasses.replace(rows, examples=examples)
    p_v = exponentials(masked, z, y) / rows.total[..., None] * v
    log_total = shards.sum(p_v)
    label = None
    if y is not None and rows.label is not None:
        hit = hits(z, y)
        others = shards.sum(jnp.where(hit, jnp.zeros((), v.dtype), p_v))
        v_y = shards.sum(jnp.where(hit, v, jnp.zeros((), v.dtype)))
        loss = others - rows.label.others / rows.total * v_y
        label = Label(rows.total * others, rows.label.own * v_y, loss)
    still = jnp.zeros_like(shift)
    return rows, Rows(still, still, rows.total * log_total, log_total, label, None, shards)


@jax.custom_jvp
def probabilities(rows: Rows, z: Array, y: Array | None) -> Array:
    """Returns p = E / S, ``[..., k]``."""
    return exponentials(rows, z, y) / rows.total[..., None]


@probabilities.defjvp
def _probabilities_jvp(primals, tangents):
    p = probabilities(*primals)
    return p, hessian_product(p, tangents[1].astype(p.dtype), primals[0].shards)


@jax.custom_jvp
def complement(rows: Rows, z: Array) -> Array:
    """Returns 1 - p in rows without labels; for p close to 1, from the sum of the others."""
    e = exponentials(rows, z, None)
    top = lax.exp(rows.shift - rows.origin)
    only = (relative(z, rows.shift[..., None]) == 0) & (rows.total < 2 * top)[..., None]
    below_top = lax.expm1(rows.log_total) * top
    others = jnp.where(only, below_top[..., None], rows.total[..., None] - e)
    return others / rows.total[..., None]


@complement.defjvp
def _complement_jvp(primals, tangents):
    rows, z = primals
    p = probabilities(rows, z, None)
    return complement(rows, z), -hessian_product(p, tangents[1].astype(p.dtype), rows.shards)


def hessian_product(p: Array, v: Array, shards: Shards = WHOLE) -> Array:
    """Returns H v for H = diag(p) - p p', the Jacobian of softmax and Hessian of log-sum-exp.

    H = C' (diag(q) - q q') C with C = I - 1 r', for any r that sums to 1. If one class has p > 1/2,
    r is one-hot at it and q is p with a zero there; else r = q = p. All differences are then taken
    between entries of v, and none of them cancels, whereas p * (v - <p, v>) is 100 % wrong on
    confident rows. The map is its own transpose, term by term.
    """

    def total(x: Array) -> Array:
        return shards.sum(x)[..., None]

    zero = jnp.zeros((), p.dtype)
    dominant = p > 0.5
    one_is = shards.any(jnp.any(dominant, axis=-1, keepdims=True))
    r = jnp.where(one_is, dominant.astype(p.dtype), p)
    rest = jnp.where(dominant, zero, p)
    w = v - total(r * v)
    u = rest * (w - total(rest * w))
    return u - r * total(u)
