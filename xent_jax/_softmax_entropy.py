"""The entropy of the softmax of logits."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float

from xent_jax import _checks
from xent_jax._blocks import row_by_row
from xent_jax._closed_form import closed_form
from xent_jax._layout import Layout, layout_of
from xent_jax._modes import Mode, in_both_modes
from xent_jax._reduction import reduce
from xent_jax._rows import (
    Rows,
    exponentials,
    hessian_product,
    probabilities,
    relative,
    row_shift,
    row_statistics,
)
from xent_jax._shards import Shards
from xent_jax._types import Axis, AxisName
from xent_jax._zero import masked


@in_both_modes
def softmax_entropy(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    axis_name: AxisName | None = None,
) -> Float[Shaped, "*batch"]:
    """Entropy of logits: ``H = -sum_j p_j log p_j``, p = softmax(z), with 0 log 0 = 0.

    For the entropy of probabilities, see ``entropy``.

    Args:
        logits: ``[*batch, classes]``, floating-point, in nats.
        axis: the class axis or axes; None for all axes.
        where, axis_name: as for ``softmax``.

    Returns:
        ``[*batch]``, in nats; float32 for half precision, else the logits' dtype. 0 for an
        example that does not take part. The result is just as accurate if one class has nearly
        all of the probability. NaN if a logit is NaN or +inf, or if all are -inf.

    Raises:
        TypeError, ValueError: as ``softmax``.

    Gradient: ``-p (log p + H)``, rounded once to the logits' dtype. Proof: ``softmax_entropy``.
    Source: Shannon (1948), "A mathematical theory of communication"; Williams and Peng (1991),
    "Function optimization using connectionist reinforcement learning algorithms".

    >>> [round(float(h), 4) for h in softmax_entropy(jnp.array([[0.0, 0.0], [20.0, 0.0]]))]
    [0.6931, 0.0]
    """
    logits = _checks.floats("softmax_entropy", "logits", logits)
    layout = layout_of("softmax_entropy", logits, axis, where, axis_name=axis_name)
    return _softmax_entropy_at(mode, logits, layout)


@functools.partial(jax.jit, static_argnums=0)
def _softmax_entropy_at(mode: Mode, logits: Array, layout: Layout) -> Array:
    entropy = _softmax_entropy(mode, layout.logits(mode, logits), shards=layout.shards)
    return reduce(entropy, "none", layout.example_mask)


class _Statistics(NamedTuple):
    rows: Rows
    gap: Array  # [...]: sum_j p_j (m - z_j)


def _statistics(shards: Shards, alone: bool, z: Array) -> _Statistics:
    rows = row_statistics(z, None, row_shift(z, shards), None, shards, alone)
    spread = row_by_row(_spread, z, rows.shift, rows.origin)
    return _Statistics(rows, shards.psum(spread) / rows.total)


def _spread(z: Array, m: Array, c: Array) -> Array:
    """Returns sum_j E_j (m - z_j), ``[...]``."""
    e = jnp.exp(relative(z, c[..., None]))
    return jnp.sum(e * _gaps(z, m, e), axis=-1)


def _gaps(z: Array, m: Array, weight: Array) -> Array:
    """Returns m - z, or 0 where the weight that multiplies it is 0."""
    return masked(weight, -relative(z, m[..., None]))


# H = log(S / E_m) + sum_j p_j (m - z_j): neither term is negative, so nothing cancels.
def _value(statistics: _Statistics, z: Array) -> Array:
    return statistics.rows.log_total + statistics.gap


# dz = -p (log p + H) g = p (m - z - sum_j p_j (m - z_j)) g.  Proof: softmax_entropy
def _backward(statistics: _Statistics, args: tuple[Array], g: Array) -> tuple[Array]:
    (z,) = args
    whole = statistics.rows.whole(g)[..., None]
    return ((whole * _slope(statistics, z)).astype(z.dtype),)


_softmax_entropy = closed_form(_statistics, _value, _backward)


@jax.custom_jvp
def _slope(statistics: _Statistics, z: Array) -> Array:
    """Returns p (m - z - sum_j p_j (m - z_j)), the Hessian of log-sum-exp times m - z."""
    rows, gap = statistics
    e = exponentials(rows, z, None)
    return e * (_gaps(z, rows.shift, e) - gap[..., None]) / rows.total[..., None]


@_slope.defjvp
def _slope_jvp(primals, tangents):
    # All differences that could cancel are inside u, the Hessian of log-sum-exp times v.
    (rows, gap), z = primals
    p = probabilities(rows, z, None)
    u, gaps = (
        hessian_product(p, tangents[1].astype(p.dtype), rows.shards),
        _gaps(z, rows.shift, p),
    )
    along = rows.shards.psum(jnp.sum(gaps * u, axis=-1, keepdims=True))
    return _slope(*primals), u * (gaps - gap[..., None] - 1) - p * along
