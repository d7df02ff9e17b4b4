"""The same functions, also differentiable in forward mode.

JAX refuses ``jvp`` of a ``custom_vjp``. Here each kernel takes its forward rule instead,
a ``custom_jvp`` that is the transpose of the very same closed form, so that ``jax.jvp``,
``jax.linearize`` and ``jax.jacfwd`` work, and ``jax.grad`` as before.
"""

import functools

import xent_jax
from xent_jax._closed_form import differentiable_forward

softmax = differentiable_forward(xent_jax.softmax)
log_softmax = differentiable_forward(xent_jax.log_softmax)
logsumexp = differentiable_forward(xent_jax.logsumexp)
entropy = differentiable_forward(xent_jax.entropy)
cross_entropy = differentiable_forward(xent_jax.cross_entropy)
relative_entropy = differentiable_forward(xent_jax.relative_entropy)
kl_divergence = differentiable_forward(xent_jax.kl_divergence)
softmax_cross_entropy = differentiable_forward(xent_jax.softmax_cross_entropy)
softmax_cross_entropy_with_integer_labels = differentiable_forward(
    xent_jax.softmax_cross_entropy_with_integer_labels
)
sigmoid_binary_cross_entropy = differentiable_forward(xent_jax.sigmoid_binary_cross_entropy)
sigmoid_focal_loss = differentiable_forward(xent_jax.sigmoid_focal_loss)
softmax_focal_loss = differentiable_forward(xent_jax.softmax_focal_loss)
poly_loss_cross_entropy = differentiable_forward(xent_jax.poly_loss_cross_entropy)
softcap = differentiable_forward(xent_jax.softcap)
linear_softmax_cross_entropy = differentiable_forward(xent_jax.linear_softmax_cross_entropy)
linear_token_statistics = differentiable_forward(xent_jax.linear_token_statistics)


@functools.wraps(xent_jax.with_linear_head)
def with_linear_head(loss, **options):  # noqa: D103  wraps brings the docstring
    return differentiable_forward(xent_jax.with_linear_head(loss, **options))


__all__ = [
    "cross_entropy",
    "entropy",
    "kl_divergence",
    "linear_softmax_cross_entropy",
    "linear_token_statistics",
    "log_softmax",
    "logsumexp",
    "poly_loss_cross_entropy",
    "relative_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "softcap",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_focal_loss",
    "with_linear_head",
]
