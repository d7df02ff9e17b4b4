"""The functions of xent_jax for forward-mode differentiation.

JAX does not allow ``jvp`` through a ``custom_vjp``. The functions of this module use a
``custom_jvp`` instead, whose rule is the transpose of the same backward function. So ``jax.jvp``,
``jax.linearize`` and ``jax.jacfwd`` work, and ``jax.grad`` works as before.

``with_linear_head`` takes losses that are differentiable in forward mode: those of this module, or
your own. A loss of ``xent_jax``, or a ``functools.partial`` of one, is replaced by the function of
this module. Inside a loss of your own, call the functions of this module.
"""

from xent_jax import (
    _chunked_loss,
    _cross_entropy,
    _divergence,
    _focal,
    _information,
    _linear,
    _poly,
    _sigmoid,
    _softcap,
    _softmax,
    _softmax_entropy,
    _token_statistics,
)
from xent_jax._modes import in_mode

softmax = in_mode("forward", _softmax.softmax)
log_softmax = in_mode("forward", _softmax.log_softmax)
logsumexp = in_mode("forward", _softmax.logsumexp)
softmax_entropy = in_mode("forward", _softmax_entropy.softmax_entropy)
entropy = in_mode("forward", _information.entropy)
cross_entropy = in_mode("forward", _information.cross_entropy)
relative_entropy = in_mode("forward", _information.relative_entropy)
generalized_kl_divergence = in_mode("forward", _information.generalized_kl_divergence)
kl_divergence = in_mode("forward", _information.kl_divergence)
kl_divergence_with_log_targets = in_mode("forward", _information.kl_divergence_with_log_targets)
softmax_cross_entropy = in_mode("forward", _cross_entropy.softmax_cross_entropy)
safe_softmax_cross_entropy = softmax_cross_entropy
softmax_cross_entropy_with_integer_labels = in_mode(
    "forward", _cross_entropy.softmax_cross_entropy_with_integer_labels
)
sigmoid_binary_cross_entropy = in_mode("forward", _sigmoid.sigmoid_binary_cross_entropy)
sigmoid_focal_loss = in_mode("forward", _sigmoid.sigmoid_focal_loss)
softmax_focal_loss = in_mode("forward", _focal.softmax_focal_loss)
softmax_jensen_shannon_divergence = in_mode(
    "forward", _divergence.softmax_jensen_shannon_divergence
)
softmax_kl_divergence = in_mode("forward", _divergence.softmax_kl_divergence)
poly_loss_cross_entropy = in_mode("forward", _poly.poly_loss_cross_entropy)
softcap = in_mode("forward", _softcap.softcap)
token_statistics = in_mode("forward", _token_statistics.token_statistics)
linear_softmax_cross_entropy = in_mode("forward", _linear.linear_softmax_cross_entropy)
linear_token_statistics = in_mode("forward", _token_statistics.linear_token_statistics)
with_linear_head = in_mode("forward", _linear.with_linear_head)
chunked_loss = in_mode("forward", _chunked_loss.chunked_loss)

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
