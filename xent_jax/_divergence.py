"""Divergence of the softmax of logits from that of target logits, for distillation.

At a temperature T, with p = softmax(w / T) of the target logits w and q = softmax(z / T):

    d_j = log(p_j / q_j)      KL(p || q) = sum_j p_j d_j = sum_j (p_j d_j - (p_j - q_j))

In the last sum no term is negative. A logit is read as its distance to the largest of its row,
divided by T: x for z, y for w. With Z and W the sums of exp(x) and exp(y), and D = W - Z,

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
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float

from xent_jax import _checks, _shards
from xent_jax._closed_form import closed_form, to_argument
from xent_jax._layout import Layout, layout
from xent_jax._modes import Mode, in_both_modes
from xent_jax._reduction import reduce
from xent_jax._rows import accumulator, hessian_product, poisoned, row_shift
from xent_jax._types import Axis, AxisName, Reduction
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
        logits: z, ``[*batch, classes]``, floating, in nats: the student's.
        target_logits: w, floating, broadcast to the logits: the teacher's.
        axis: the class axis, or axes, or None for all.
        where: booleans with the shape of the batch: the examples that take part; or that
            broadcast to the logits: the classes, which have probability 0 in both otherwise.
        temperature: T, a positive number that divides both. Hinton et al. multiply the loss
            by ``T^2``; it is not done here.
        weights: floats that broadcast to ``[*batch]``, at least 0: the factor of each loss.
        reduction: ``"none"``, ``"sum"``, or ``"mean"`` over the examples left in, with weights
            over the sum of those (0 where it is 0).
        axis_name: inside ``jax.shard_map`` the mesh axis, or axes, over which the classes are
            divided: both logits and a mask of classes are this shard's.
        batch_axis_name: the mesh axes over which the examples are divided: a sum or mean is
            then over all of them.

    Returns:
        Divergences in nats, ``[*batch]`` or a scalar; float32 for half precision, else the
        wider dtype of the two. 0 for an example that is out, +inf where a class that the
        target has is at a logit of -inf. NaN for a traced temperature that is not positive,
        and for a weight that is not at least 0.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape or option is, or ``temperature`` is
        not positive.

    Gradient: ``(q - p) / T`` to the logits and ``p (log(p / q) - KL) / T`` to the target's,
    with ``p = softmax(w / T)`` and ``q = softmax(z / T)``, rounded once to the dtype of each;
    to the temperature too. Where the divergence is +inf the target's is NaN. Proof:
    ``softmax_kl_divergence``. Source: Hinton, Vinyals and Dean (2015), "Distilling the
    Knowledge in a Neural Network"; Kullback and Leibler (1951).

    >>> loss = softmax_kl_divergence(jnp.zeros(2), jnp.array([20.0, 0.0]))
    >>> round(float(loss), 4)
    0.6931
    """
    name = "softmax_kl_divergence"
    logits = _checks.floats(name, "logits", logits)
    target_logits = _checks.floats(name, "target_logits", target_logits)
    _checks.axis_name(name, batch_axis_name, name="batch_axis_name")
    place = layout(name, logits, axis, where, axis_name=axis_name)
    target_logits = _checks.broadcastable(name, "target_logits", target_logits, logits.shape)
    temperature = _checks.scalar(name, "temperature", temperature, 0, above=True)
    weights = _checks.weights(name, weights, place.batch)
    reduction = _checks.reduction(name, reduction)
    given = logits, target_logits, place, temperature, weights
    return _divergence(mode, reduction, batch_axis_name, *given)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _divergence(
    mode: Mode,
    reduction: Reduction,
    batch_axis_name: AxisName | None,
    logits: Array,
    target_logits: Array,
    place: Layout,
    temperature: Any,
    weights: Array | None,
) -> Array:
    logits, target_logits = _shards.together(logits, target_logits)
    target_logits = jnp.broadcast_to(target_logits, logits.shape)
    z, w = (place.logits(mode, x) for x in (logits, target_logits))
    dtype = max(accumulator(z.dtype), accumulator(w.dtype), key=lambda d: d.itemsize)
    temperature = jnp.asarray(temperature, dtype)
    temperature = poisoned(temperature, temperature > 0)
    losses = _kl(mode, z, w, temperature, axis_name=place.axis_name)
    return reduce(losses, reduction, place.examples, None, batch_axis_name, weights)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Pair:
    """What forward and backward share of the two rows, one number per example each."""

    shift_z: Array  # the largest logit
    shift_w: Array
    total_z: Array  # sum_j exp(x_j)
    total_w: Array  # sum_j exp(y_j)
    more: Array  # D = total_w - total_z
    axis_name: AxisName | None = dataclasses.field(metadata={"static": True})  # of the classes

    def whole(self, g: Array) -> Array:
        """The cotangent of what the shards computed together, from that of one's copy."""
        return _shards.cotangent(g, self.axis_name)


class _Row(NamedTuple):
    """A row of logits as it stands to its largest."""

    distance: Array  # [..., k]: z - m
    lost: Array  # [..., k]: what the subtraction rounded off
    x: Array  # [..., k]: distance / T
    e: Array  # [..., k]: exp(x), to the last places


def _row(z: Array, m: Array, temperature: Array) -> _Row:
    m = m[..., None]
    # Adding m - m, which is 0, keeps XLA from contracting a product with the subtraction, as
    # ``relative`` explains.
    z = z.astype(m.dtype) + (m - m)
    distance = z - m
    far = distance < -1e6  # where the exponential is 0, and an infinity would become NaN
    near = jnp.where(far, m, lax.stop_gradient(z))
    rounded = near - m
    back = rounded - near
    lost = (near - (rounded - back)) - (m + back)
    x = _over(distance, temperature)
    e = jnp.exp(x)
    return _Row(distance, lost, x, e + e * (lost / temperature))


def _over(distance: Array, temperature: Array) -> Array:
    """Divided by T; an infinity stays one, and has no derivative."""
    finite = jnp.isfinite(distance)
    zero = jnp.zeros((), distance.dtype)
    return jnp.where(finite, jnp.where(finite, distance, zero) / temperature, distance)


def _apart(z: _Row, w: _Row, temperature: Array) -> Array:
    """y - x, to the last places; 0 where both are -inf."""
    absent = (z.distance == -jnp.inf) & (w.distance == -jnp.inf)
    zero = jnp.zeros((), temperature.dtype)
    by = jnp.where(absent, zero, w.distance) - jnp.where(absent, zero, z.distance)
    return _over(by + (w.lost - z.lost), temperature)


@jax.custom_jvp
def _difference(a: Array, b: Array, log_ratio: Array) -> Array:
    """a - b to the last places, from log(a / b)."""
    larger = jnp.where(log_ratio > 0, a, -b)
    return larger * -jnp.expm1(-jnp.abs(log_ratio))


_difference.defjvps(lambda v, *_: v, lambda v, *_: -v, None)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _share(x: Array, e: Array, total: Array, axis_name: AxisName | None) -> Array:
    """Probabilities, e over its total."""
    return e / total[..., None]


@_share.defjvp
def _share_jvp(axis_name, primals, tangents):
    p = _share(*primals, axis_name)
    return p, hessian_product(p, tangents[0], axis_name)


@jax.custom_jvp
def _shares_apart(p: Array, q: Array, apart: Array, pair: _Pair) -> Array:
    """p - q to the last places, from what the exponentials and their sums differ by."""
    # total_z (p - q) is apart - p D, and total_w (p - q) is apart - q D.
    both = (pair.total_z + pair.total_w)[..., None]
    return (2 * apart - (p + q) * pair.more[..., None]) / both


_shares_apart.defjvps(lambda v, *_: v, lambda v, *_: -v, None, None)


def _sum(x: Array, axis_name: AxisName | None) -> Array:
    return _shards.total(jnp.sum(x, axis=-1), axis_name)


def _statistics(axis_name: AxisName | None, _: bool, z: Array, w: Array, temperature) -> _Pair:
    shift_z, shift_w = (row_shift(x, axis_name).astype(temperature.dtype) for x in (z, w))
    of_z, of_w = _row(z, shift_z, temperature), _row(w, shift_w, temperature)
    more = _difference(of_w.e, of_z.e, _apart(of_z, of_w, temperature))
    total_z, total_w, more = (_sum(x, axis_name) for x in (of_z.e, of_w.e, more))
    return _Pair(shift_z, shift_w, total_z, total_w, more, axis_name)


class _Both(NamedTuple):
    """What is compared, each ``[..., k]``."""

    x: Array
    y: Array
    p: Array
    less: Array  # p - q
    d: Array  # log(p / q)


def _compared(pair: _Pair, z: Array, w: Array, temperature: Array) -> _Both:
    of_z, of_w = _row(z, pair.shift_z, temperature), _row(w, pair.shift_w, temperature)
    apart, more = _apart(of_z, of_w, temperature), pair.more
    q = _share(of_z.x, of_z.e, pair.total_z, pair.axis_name)
    p = _share(of_w.x, of_w.e, pair.total_w, pair.axis_name)
    less = _shares_apart(p, q, _difference(of_w.e, of_z.e, apart), pair)
    log_ratio = jnp.where(
        more > 0, jnp.log1p(more / pair.total_z), -jnp.log1p(-more / pair.total_w)
    )
    return _Both(of_z.x, of_w.x, p, less, apart - log_ratio[..., None])


def _kl_value(pair: _Pair, z: Array, w: Array, temperature: Array) -> Array:
    both = _compared(pair, z, w, temperature)
    return _sum(product(both.p, both.d) - both.less, pair.axis_name)


# dz = (q - p) / T g, dw = H d / T g with H = diag(p) - p p',
# dT = -(<z, q - p> + <w, H d>) / T^2 g.  Proof: softmax_kl_divergence
def _kl_backward(pair: _Pair, args, g: Array):
    z, w, temperature = args
    both = _compared(pair, z, w, temperature)
    by_x = -both.less
    by_y = hessian_product(both.p, bounded(both.p, both.d), pair.axis_name)
    along = _sum(product(by_x, both.x) + product(by_y, both.y), pair.axis_name)
    scaled = pair.whole(g)[..., None] / temperature
    return (
        (scaled * by_x).astype(z.dtype),
        (scaled * by_y).astype(w.dtype),
        to_argument(-g * along / temperature, temperature),
    )


_kl = closed_form(_statistics, _kl_value, _kl_backward)
