"""The formula of all softmax cross-entropies, for a target ``t = a onehot(y) + b``.

If there is a label y but no ``a``, then a is 1. c is the coefficient of the z-loss.

L  = T lse + c lse^2 - <t, z>          T = sum(t)
dL = (T + 2 c lse) p - t               p = softmax(z)
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from xent_jax._closed_form import closed_form, moves, to_argument
from xent_jax._rows import (
    Rows,
    exponentials,
    filled,
    hessian_product,
    hits,
    other_exponentials,
    probabilities,
    relative,
    row_shift,
    row_statistics,
)
from xent_jax._shards import Shards
from xent_jax._zero import masked, times


class _Statistics(NamedTuple):
    rows: Rows
    spread: Array | None  # [...]: sum_j b_j (m - z_j)
    mass: Array | None  # [...]: sum_j b_j


def _statistics(shards: Shards, alone: bool, z: Array, y, a, b, c, examples) -> _Statistics:
    shift = row_shift(z, shards, examples)
    if b is None:
        rows = row_statistics(z, y, shift, examples, shards, alone)
        return _Statistics(dataclasses.replace(rows, examples=examples), None, None)
    # sum_j b_j (m - z_j), with 0 * inf = 0. The rule of the value covers its derivative.
    gap = -relative(z, shift[..., None])
    if b.shape[-1] == 1:  # one number for all classes
        of_all = b.squeeze(-1)
        spread, mass = of_all * masked(of_all, jnp.sum(gap, axis=-1)), of_all * z.shape[-1]
    else:
        spread, mass = jnp.sum(b * masked(b, gap), axis=-1), jnp.sum(b, axis=-1)
    spread, mass = shards.psum((spread, mass))
    spread = lax.stop_gradient(filled(spread, examples))
    # This makes the row of a NaN label NaN. It also makes the exponentials depend on the sum above,
    # so that XLA computes both [n, k] arrays in one buffer, that of the gradient.
    shift = jnp.where(jnp.isnan(spread), spread, shift)
    rows = row_statistics(z, y, shift, examples, shards, alone)
    return _Statistics(dataclasses.replace(rows, examples=examples), spread, mass)


def _value(statistics: _Statistics, z: Array, y, a, b, c, examples) -> Array:
    rows, spread, mass = statistics
    loss = jnp.zeros_like(rows.shift)
    if rows.label is not None:
        loss = rows.label.loss if a is None else jnp.where(a == 0, loss, a * rows.label.loss)
    if spread is not None and mass is not None:
        loss = loss + (spread + mass * rows.log_total)
    if c is not None:
        lse = rows.shift + rows.log_total
        loss = loss + c * lse * lse
    return loss


# dz = (T + 2 c lse) p - t, da = -log p_y, db = lse - z, dc = lse^2, each times g.
# Proof: softmax_cross_entropy, softmax_cross_entropy_with_integer_labels, token_statistics
def _backward(statistics: _Statistics, args, g: Array):
    rows, _, mass = statistics
    z, y, a, b, c, _ = args
    whole = rows.whole(g)[..., None]
    one = jnp.ones_like(rows.shift) if a is None and rows.label is not None else a
    g_z = whole * _gradient(rows, z, y, one, b, mass, c)
    g_a = g_b = g_c = None
    if rows.label is not None and a is not None:
        g_a = to_argument(times(g, rows.label.loss), a)
    if b is not None:
        surprise = rows.log_total[..., None] - relative(z, rows.shift[..., None])
        surprise = filled(surprise, rows.examples)
        # 0 * inf = 0 here too, or a masked class would make the gradients of the options NaN.
        surprise = jnp.where((b == 0) & (z == -jnp.inf), jnp.zeros((), g.dtype), surprise)
        g_b = to_argument(times(whole, surprise), b)
    if c is not None:
        lse = rows.shift + rows.log_total
        g_c = to_argument(g * lse * lse, c)
    return g_z.astype(z.dtype), None, g_a, g_b, g_c, None


weighted_cross_entropy = closed_form(_statistics, _value, _backward)


@jax.custom_jvp
def _gradient(rows: Rows, z: Array, y, a, b, mass, c) -> Array:
    """Returns (T + 2 c lse) p - t, linear in a, b with its mass, and c; each may be None."""
    free = jnp.zeros_like(rows.shift)  # the factor of p, without a
    if mass is not None:
        free = free + mass
    if c is not None:
        free = free + 2 * c * (rows.shift + rows.log_total)
    per = 1 / rows.total
    if rows.label is None:
        gradient = exponentials(rows, z, y) * (free * per)[..., None]
    else:
        a = jnp.zeros_like(rows.shift) if a is None else a
        # The label has p_y - 1 = -A / S. The subtraction would cancel.
        own = free * (rows.label.own * per) - a * (rows.label.others * per)
        elsewhere = other_exponentials(z, y, rows.origin) * ((a + free) * per)[..., None]
        gradient = filled(jnp.where(hits(z, y), own[..., None], elsewhere), rows.examples)
    return gradient if b is None else gradient - b


def _gradient_jvp(primals, tangents):
    rows, z, y, a, b, mass, c = primals
    _, v, _, *coefficients = tangents
    out = _gradient(*primals)
    moved = jnp.zeros_like(out)
    coefficients = [t if moves(t) else None for t in coefficients]
    if any(t is not None for t in coefficients):
        moved = moved + _gradient(rows, z, y, *coefficients)
    if moves(v):
        # (T + 2 c lse) H v + 2 c <p, v> p
        v = v.astype(out.dtype)
        p = probabilities(rows, z, y)
        slope = jnp.zeros_like(rows.shift)
        if a is not None:
            slope = slope + a
        if mass is not None:
            slope = slope + mass
        if c is not None:
            slope = slope + 2 * c * (rows.shift + rows.log_total)
            along = rows.shards.sum(p * v)
            moved = moved + (2 * c * along)[..., None] * p
        moved = moved + slope[..., None] * hessian_product(p, v, rows.shards)
    return out, moved


_gradient.defjvp(_gradient_jvp, symbolic_zeros=True)
