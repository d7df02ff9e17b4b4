"""The options of xent_jax's losses, written with optax as its users do."""

import jax
import jax.numpy as jnp
import optax


def integer(z, y, label_smoothing=0.0, z_loss=0.0, ignore_index=None):
    """Losses with integer labels; without options they are those of optax itself."""
    if ignore_index is not None:
        kept = y != ignore_index
        y = jnp.where(kept, y, 0)
    if label_smoothing:
        soft = jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype)
        losses = optax.softmax_cross_entropy(z, optax.smooth_labels(soft, label_smoothing))
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(z, y)
    if z_loss:
        losses = losses + z_loss * jax.nn.logsumexp(z, -1) ** 2
    return losses if ignore_index is None else jnp.where(kept, losses, 0.0)


def soft(z, t, label_smoothing=0.0, z_loss=0.0, class_weights=None):
    """Losses with soft labels; without options they are those of optax itself."""
    if label_smoothing:
        t = optax.smooth_labels(t, label_smoothing)
    if class_weights is not None:
        t = class_weights * t
    losses = optax.softmax_cross_entropy(z, t)
    return losses + z_loss * jax.nn.logsumexp(z, -1) ** 2 if z_loss else losses
