"""The functions of xent_jax for forward-mode differentiation.

JAX does not allow ``jvp`` through a ``custom_vjp``. The functions of this module use a
``custom_jvp`` instead, whose rule is the transpose of the same backward function. So ``jax.jvp``,
``jax.linearize`` and ``jax.jacfwd`` work, and ``jax.grad`` works as before.

``with_linear_head`` takes losses that are differentiable in forward mode: those of this module, or
your own. A loss of ``xent_jax``, or a ``functools.partial`` of one, is replaced by the function of
this module. Inside a loss of your own, call the functions of this module.
"""

import xent_jax
from xent_jax._modes import in_mode

softmax = in_mode("forward", xent_jax.softmax)
log_softmax = in_mode("forward", xent_jax.log_softmax)
logsumexp = in_mode("forward", xent_jax.logsumexp)
softmax_entropy = in_mode("forward", xent_jax.softmax_entropy)
entropy = in_mode("forward", xent_jax.entropy)
cross_entropy = in_mode("forward", xent_jax.cross_entropy)
relative_entropy = in_mode("forward", xent_jax.relative_entropy)
generalized_kl_divergence = in_mode("forward", xent_jax.generalized_kl_divergence)
kl_divergence = in_mode("forward", xent_jax.kl_divergence)
kl_divergence_with_log_targets = in_mode("forward", xent_jax.kl_divergence_with_log_targets)
softmax_cross_entropy = in_mode("forward", xent_jax.softmax_cross_entropy)
safe_softmax_cross_entropy = softmax_cross_entropy
softmax_cross_entropy_with_integer_labels = in_mode(
    "forward", xent_jax.softmax_cross_entropy_with_integer_labels
)
sigmoid_binary_cross_entropy = in_mode("forward", xent_jax.sigmoid_binary_cross_entropy)
sigmoid_focal_loss = in_mode("forward", xent_jax.sigmoid_focal_loss)
softmax_focal_loss = in_mode("forward", xent_jax.softmax_focal_loss)
softmax_jensen_shannon_divergence = in_mode("forward", xent_jax.softmax_jensen_shannon_divergence)
softmax_kl_divergence = in_mode("forward", xent_jax.softmax_kl_divergence)
poly_loss_cross_entropy = in_mode("forward", xent_jax.poly_loss_cross_entropy)
softcap = in_mode("forward", xent_jax.softcap)
token_statistics = in_mode("forward", xent_jax.token_statistics)
linear_softmax_cross_entropy = in_mode("forward", xent_jax.linear_softmax_cross_entropy)
linear_token_statistics = in_mode("forward", xent_jax.linear_token_statistics)
with_linear_head = in_mode("forward", xent_jax.with_linear_head)
chunked_loss = in_mode("forward", xent_jax.chunked_loss)

__all__ = [
    "chunked_loss",
    "cross_entropy",
    "entropy",
    "generalized_kl_divergence",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "linear_softmax_cross_entropy",
    "linear_token_statistics",
    "log_softmax",
    "logsumexp",
    "poly_loss_cross_entropy",
    "relative_entropy",
    "safe_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "softcap",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_entropy",
    "softmax_focal_loss",
    "softmax_jensen_shannon_divergence",
    "softmax_kl_divergence",
    "token_statistics",
    "with_linear_head",
]
