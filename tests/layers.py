"""Defines layers and losses of public code, and backward passes that can be made wrong."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import logsumexp, softmax


def mean(x):
    return jnp.mean(x, -1, keepdims=True)


def at_label(x, y):
    return jnp.take_along_axis(x, y[:, None], -1)[:, 0]


def normal(x):
    """Returns the distribution function of the standard normal distribution."""
    return (1 + lax.erf(x / jnp.sqrt(2.0))) / 2


def gelu(x):
    return jax.nn.gelu(x, approximate=False)


def gelu_backward(g, x):
    return g * (normal(x) + x * jnp.exp(-x * x / 2) / jnp.sqrt(2 * jnp.pi))


def cross_entropy(z, y):
    return logsumexp(z, -1) - at_label(z, y)


def cross_entropy_backward(g, z, y):
    return g[:, None] * (softmax(z) - jax.nn.one_hot(y, z.shape[-1]))


def rlax_huber(x):
    small = jnp.minimum(jnp.abs(x), 1.0)
    return 0.5 * small**2 + (jnp.abs(x) - small)


def rms(x, eps=1e-6):
    return lax.rsqrt(mean(x * x) + eps)


def rms_norm(x, w):
    return x * rms(x) * w


def rms_norm_backward(g, x, w, second=1.0):
    r, u = rms(x), g * w
    return r * u - second * x * r**3 * mean(u * x), jnp.sum(g * x * r, 0)


def layer_norm(x, w, b, eps=1e-5):
    c = x - mean(x)
    return c * lax.rsqrt(mean(c * c) + eps) * w + b


def layer_norm_backward(g, x, w, b, centred=1.0):
    c = x - mean(x)
    r = lax.rsqrt(mean(c * c) + 1e-5)
    n, u = c * r, g * w
    dx = r * (u - centred * mean(u) - n * mean(u * n))
    return dx, jnp.sum(g * n, 0), jnp.sum(g, 0)


def fast_layer_norm(x):
    """Returns the layer norm with the variance of flax: mean(x²) - mean(x)², at least 0."""
    variance = jnp.maximum(0.0, mean(x * x) - mean(x) ** 2)
    return (x - mean(x)) * lax.rsqrt(variance + 1e-6)


def fast_layer_norm_backward(g, x, centred=1.0, spread=1.0):
    r = lax.rsqrt(mean(x * x) - mean(x) ** 2 + 1e-6)
    n = (x - mean(x)) * r
    return r * (g - centred * mean(g) - spread * n * mean(g * n))


def attention(q, k, v, mask=None):
    s = q @ k.T / 8
    return softmax(s if mask is None else jnp.where(mask(s), s, -jnp.inf)) @ v


def causal(s):
    return jnp.arange(s.shape[0])[:, None] >= jnp.arange(s.shape[1])


def attention_backward(g, q, k, v, rowwise=1.0):
    p = softmax(q @ k.T / 8)
    dp = g @ v.T
    ds = p * (dp - rowwise * jnp.sum(p * dp, -1, keepdims=True)) / 8
    return ds @ k, ds.T @ q, p.T @ g


def logsumexp_so_far(x):
    """Returns the log-sum-exp of the entries up to each, as one-pass attention computes it."""
    m = lax.cummax(x, 1)
    before = jnp.tril(jnp.ones((x.shape[1],) * 2)) > 0
    parts = jnp.where(before, jnp.exp(x[:, None, :] - m[:, :, None]), 0.0)
    return m + jnp.log(jnp.sum(parts, -1))


def logsumexp_so_far_backward(g, x, reverse=True):
    return jnp.exp(x) * lax.cumsum(g * jnp.exp(-logsumexp_so_far(x)), 1, reverse)


def rotary(x, c, s):
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * c - b * s, b * c + a * s], -1)


def perceptron(p, x):
    return jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]


def perceptron_backward(g, p, x, second=1.0):
    h = jnp.tanh(x @ p["w"] + p["b"])
    dh = g[:, None] * p["v"] * (1 - second * h**2)
    return {"w": x.T @ dh, "b": jnp.sum(dh, 0), "v": h.T @ g}, dh @ p["w"].T


def gated(x):
    a, b = jnp.split(x, 2, -1)
    return a * jax.nn.sigmoid(b)


def gated_backward(g, x, order=1):
    a, b = jnp.split(x, 2, -1)
    s = jax.nn.sigmoid(b)
    return jnp.concatenate([g * s, g * a * s * (1 - s)][::order], -1)


def pairs_turned(x, c, s):
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * c - b * s, b * c + a * s], -1).reshape(x.shape)


def of_next_token(z, y):
    return jnp.mean(cross_entropy(z[:-1], y[1:]))


def of_next_token_backward(g, z, y, order=1):
    """Returns the gradient, which is 0 at the last token because it has no next one."""
    p = softmax(z[:-1]) - jax.nn.one_hot(y[1:], z.shape[1])
    return jnp.concatenate([g * p / p.shape[0], jnp.zeros_like(z[:1])][::order])
