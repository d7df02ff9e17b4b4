"""Products, logarithms and quotients for derivatives that are infinite where a probability is 0.

The rule is the same everywhere: zero times infinity is 0 if the zero is a cotangent, a tangent, a
weight or a probability. NaN stays NaN.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax


def masked(weight: Array, x: Array, instead: float = 0.0) -> Array:
    """Returns ``x``, but ``instead`` where ``weight`` is 0, so that their product is 0 there."""
    return jnp.where(weight == 0, jnp.asarray(instead, x.dtype), x)


def bounded(weight: Array, x: Array) -> Array:
    """Returns ``x``, but 0 where ``weight`` is 0 and ``x`` infinite, with the derivative of x."""
    return jnp.where(weight == 0, _finite(x), x)


@jax.custom_jvp
def product(weight: Array, x: Array) -> Array:
    """Returns ``weight x``, but 0 where ``weight`` is 0 and ``x`` infinite."""
    return weight * bounded(weight, x)


@product.defjvp
def _product_jvp(primals, tangents):
    weight, x = primals
    weight_dot, x_dot = tangents
    moved = times(weight_dot, bounded(weight, x)) + weight * x_dot
    return product(weight, x), moved


@jax.custom_jvp
def _finite(x: Array) -> Array:
    return jnp.where(_infinite(x), jnp.zeros((), x.dtype), x)


_finite.defjvps(lambda v, _, x: v)


def _infinite(x: Array) -> Array:
    return ~jnp.isfinite(x) & (x == x)


@jax.custom_jvp
def times(v: Array, x: Array) -> Array:
    """Returns ``v x``, but 0 where ``v`` is 0 and ``x`` infinite; linear in ``v``, a (co)tangent.

    JAX must be able to transpose this, so ``v`` must not be compared with anything. Instead, where
    ``x`` is infinite, ``v`` is multiplied three times by a large number, which overflows unless
    ``v`` is 0.
    """
    zero = jnp.zeros((), x.dtype)
    large = jnp.asarray(2.0 ** (2 * jnp.finfo(x.dtype).maxexp // 3 + 1), x.dtype)
    # XLA would multiply the large numbers first; the barrier prevents that.
    infinite = _infinite(x) & lax.optimization_barrier(jnp.asarray(True))
    factor = jnp.where(infinite, large, zero)
    signed = jnp.where(jnp.where(infinite, x, zero) < 0, -factor, factor)
    return v * _finite(x) + v * signed * factor * factor


@times.defjvp
def _times_jvp(primals, tangents):
    v, x = primals
    v_dot, x_dot = tangents
    return times(v, x), times(v_dot, x) + weighed(v, x_dot)


@jax.custom_jvp
def weighed(w: Array, x: Array) -> Array:
    """Returns ``w x``, but 0 where ``w`` is 0 and the (co)tangent ``x`` infinite; linear in x."""
    return w * masked(w, x)


@weighed.defjvp
def _weighed_jvp(primals, tangents):
    w, x = primals
    w_dot, x_dot = tangents
    return weighed(w, x), times(w_dot, x) + weighed(w, x_dot)


@jax.custom_jvp
def log(p: Array) -> Array:
    """Returns log p. A tangent of 0 stays 0 even at p = 0, where the derivative is infinite."""
    return jnp.log(p)


@log.defjvp
def _log_jvp(primals, tangents):
    (p,), (v,) = primals, tangents
    return log(p), times(v, ratio(jnp.ones((), p.dtype), p))


@jax.custom_jvp
def ratio(p: Array, q: Array) -> Array:
    """Returns p / q, but 0 where both are 0."""
    return p / jnp.where((p == 0) & (q == 0), jnp.ones((), q.dtype), q)


@ratio.defjvp
def _ratio_jvp(primals, tangents):
    p, q = primals
    v, w = tangents
    r = ratio(p, q)
    return r, times(v, ratio(jnp.ones((), q.dtype), q)) - times(w, ratio(r, q))


@jax.custom_jvp
def mixed(e: Array, t: Array, u: Array) -> Array:
    """Returns (1 - e) t + e u; its derivative by e is one product, so that no infinities cancel."""
    return (1 - e) * t + e * u


@mixed.defjvp
def _mixed_jvp(primals, tangents):
    e, t, u = primals
    e_dot, t_dot, u_dot = tangents
    return mixed(e, t, u), (u - t) * e_dot + (1 - e) * t_dot + e * u_dot
