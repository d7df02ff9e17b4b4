"""Functions that transform logits before a loss: the soft cap and the temperature."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Array as Shaped
from jaxtyping import ArrayLike, Float

from xent_jax import _checks
from xent_jax._closed_form import closed_form, to_argument
from xent_jax._modes import Mode, in_both_modes
from xent_jax._rows import poisoned
from xent_jax._types import accumulator
from xent_jax._zero import times, weighed


@in_both_modes
def softcap(
    mode: Mode, logits: Float[ArrayLike, "*shape"], cap: float | Float[ArrayLike, ""]
) -> Float[Shaped, "*shape"]:
    """Soft cap: ``c tanh(z / c)``, close to the identity near 0 and always within [-c, c].

    Args:
        logits: any shape, floating-point.
        cap: c, a positive number, in the unit of the logits.

    Returns:
        Capped logits, with the shape and dtype of ``logits``. Half precision is computed
        in float32 and rounded once.

    Raises:
        TypeError: ``logits`` are not floating-point, or ``cap`` is not a number. ValueError:
        ``cap`` is not positive.

    Gradient: ``sech(z / c)^2``, and ``tanh(x) - x sech(x)^2`` at ``x = z / c`` to the cap.
    Proof: ``softcap``. Source: Gemma Team (2024), "Gemma 2", section 2.

    >>> softcap(jnp.array([1e9]), 30.0).tolist()
    [30.0]
    """
    logits = _checks.floats("softcap", "logits", logits)
    cap = _checks.scalar("softcap", "cap", cap, 0, above=True)
    return _capped(mode, logits, cap)


@functools.partial(jax.jit, static_argnums=0)
def _capped(mode: Mode, logits: Array, cap: Any) -> Array:
    return _softcap(mode, logits, jnp.asarray(cap, accumulator(logits.dtype)))


def _softcap_value(_, z: Array, cap: Array) -> Array:
    return (cap * _tanh(z.astype(cap.dtype) / cap)).astype(z.dtype)


# dz = sech(z / c)^2 g.  Proof: softcap
def _softcap_backward(_, args, g: Array):
    z, cap = args
    x = z.astype(cap.dtype) / cap
    g = g.astype(cap.dtype)
    bounded = jnp.where(jnp.isfinite(x), x, jnp.zeros((), x.dtype))
    g_cap = to_argument(g * (_tanh(x) - bounded * _sech2(x)), cap)
    return (g * _sech2(x)).astype(z.dtype), g_cap


_softcap = closed_form(lambda *_: None, _softcap_value, _softcap_backward)


def _tempered_value(_, z: Array, temperature: Array) -> Array:
    return z / poisoned(temperature, temperature > 0)


# dz = g / T, dT = -sum g z / T^2.
def _tempered_backward(_, args, g: Array):
    z, temperature = args
    t = poisoned(temperature, temperature > 0)
    return g / t, to_argument(-times(g, z / t) / t, temperature)


_tempered = closed_form(lambda *_: None, _tempered_value, _tempered_backward)


def transformed(mode: Mode, z: Array, cap: Array | None, temperature: Array | None) -> Array:
    """Applies the soft cap and then the temperature; either may be None.

    A temperature that is not above 0 gives NaN.
    """
    z = z if cap is None else _softcap(mode, z, cap)
    return z if temperature is None else _tempered(mode, z, temperature)


@jax.custom_jvp
def _tanh(x: Array) -> Array:
    return jnp.tanh(x)


@_tanh.defjvp
def _tanh_jvp(primals, tangents):
    (x,), (v,) = primals, tangents
    return _tanh(x), weighed(_sech2(x), v)


@jax.custom_jvp
def _sech2(x: Array) -> Array:
    """Returns sech(x)^2, accurate also where 1 - tanh(x)^2 loses all its digits."""
    q = jnp.exp(-2 * jnp.abs(x))
    return 4 * q / jnp.square(1 + q)


@_sech2.defjvp
def _sech2_jvp(primals, tangents):
    (x,), (v,) = primals, tangents
    s = _sech2(x)
    return s, -2 * _tanh(x) * weighed(s, v)
