"""Poly loss: cross-entropy with its first polynomial term reweighted."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Bool, Float

from xent_jax import _checks
from xent_jax._closed_form import closed_form, to_argument
from xent_jax._labels import soft_labels, soft_targets
from xent_jax._layout import Layout, layout_of
from xent_jax._modes import Mode, in_both_modes
from xent_jax._reduction import reduce
from xent_jax._rows import (
    Rows,
    complement,
    hessian_product,
    probabilities,
    row_shift,
    row_statistics,
)
from xent_jax._shards import Shards
from xent_jax._types import Axis, AxisName
from xent_jax._weighted import weighted_cross_entropy


@in_both_modes
def poly_loss_cross_entropy(
    mode: Mode,
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*#shape"],
    epsilon: float | Float[ArrayLike, ""] = 2.0,
    axis: Axis = -1,
    where: Bool[ArrayLike, "*mask"] | None = None,
    *,
    axis_name: AxisName | None = None,
) -> Float[Shaped, "*batch"]:
    """Poly-1 loss: ``-sum_j t_j log p_j + epsilon sum_j t_j (1 - p_j)``, p = softmax(z).

    Args:
        logits: ``[*batch, classes]``, floating-point, in nats.
        labels: t, broadcast to the logits; they need not sum to 1.
        epsilon: the coefficient of the first polynomial term; 0 gives cross-entropy.
        axis, where, axis_name: as for ``softmax_cross_entropy``.

    Returns:
        ``[*batch]``, in nats; float32 for half precision, else the logits' dtype.

    Raises:
        TypeError: a dtype is wrong. ValueError: a shape does not fit.

    Gradient: ``T p - t - epsilon H t`` with ``H = diag(p) - p p'``; ``lse - z +
    epsilon (1 - p)`` to the labels. Epsilon has a gradient too. Proof: ``poly_loss_cross_entropy``.
    Source: Leng et al. (2022), "PolyLoss".

    >>> round(float(poly_loss_cross_entropy(jnp.zeros(2), jnp.array([1.0, 0.0]))), 4)
    1.6931
    """
    name = "poly_loss_cross_entropy"
    logits = _checks.floats(name, "logits", logits)
    layout = layout_of(name, logits, axis, where, axis_name=axis_name)
    labels = soft_labels(name, labels, logits)
    epsilon = _checks.scalar(name, "epsilon", epsilon)
    return _poly(mode, logits, labels, layout, epsilon)


@functools.partial(jax.jit, static_argnums=0)
def _poly(mode: Mode, logits: Array, labels: Array, layout: Layout, epsilon: Any) -> Array:
    z, t = layout.logits(mode, logits), soft_targets(labels, logits, layout)
    loss = weighted_cross_entropy(mode, z, None, None, t, None, None, shards=layout.shards)
    missed = _missed(mode, z, t, shards=layout.shards)
    return reduce(loss + jnp.asarray(epsilon, t.dtype) * missed, "none", layout.example_mask)


def _statistics(shards: Shards, _: bool, z: Array, t: Array) -> Rows:
    return row_statistics(z, None, row_shift(z, shards), None, shards, False)


def _missed_value(rows: Rows, z: Array, t: Array) -> Array:
    return rows.shards.sum(t * complement(rows, z))


# dz = -H t g, dt = (1 - p) g.  Proof: poly_loss_cross_entropy
def _missed_backward(rows: Rows, args, g: Array):
    z, t = args
    g = rows.whole(g)[..., None]
    p = probabilities(rows, z, None)
    full = jnp.broadcast_to(t, p.shape)
    return (
        (-g * hessian_product(p, full, rows.shards)).astype(z.dtype),
        to_argument(g * complement(rows, z), t),
    )


_missed = closed_form(_statistics, _missed_value, _missed_backward)
