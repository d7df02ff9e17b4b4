"""Softmax cross-entropy for JAX: closed-form gradients, exact to the last places."""

from xent_jax._chunked_loss import chunked_loss as chunked_loss
from xent_jax._cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from xent_jax._cross_entropy import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from xent_jax._divergence import (
    softmax_jensen_shannon_divergence as softmax_jensen_shannon_divergence,
)
from xent_jax._divergence import softmax_kl_divergence as softmax_kl_divergence
from xent_jax._focal import softmax_focal_loss as softmax_focal_loss
from xent_jax._information import cross_entropy as cross_entropy
from xent_jax._information import entropy as entropy
from xent_jax._information import generalized_kl_divergence as generalized_kl_divergence
from xent_jax._information import kl_divergence as kl_divergence
from xent_jax._information import (
    kl_divergence_with_log_targets as kl_divergence_with_log_targets,
)
from xent_jax._information import relative_entropy as relative_entropy
from xent_jax._linear import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from xent_jax._linear import with_linear_head as with_linear_head
from xent_jax._linear_plan import LinearHeadPlan as LinearHeadPlan
from xent_jax._linear_plan import linear_head_plan as linear_head_plan
from xent_jax._linear_sharded import shard_linear_head as shard_linear_head
from xent_jax._poly import poly_loss_cross_entropy as poly_loss_cross_entropy
from xent_jax._sigmoid import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from xent_jax._sigmoid import sigmoid_focal_loss as sigmoid_focal_loss
from xent_jax._softcap import softcap as softcap
from xent_jax._softmax import log_softmax as log_softmax
from xent_jax._softmax import logsumexp as logsumexp
from xent_jax._softmax import softmax as softmax
from xent_jax._softmax_entropy import softmax_entropy as softmax_entropy
from xent_jax._token_statistics import TokenStatistics as TokenStatistics
from xent_jax._token_statistics import linear_token_statistics as linear_token_statistics
from xent_jax._token_statistics import token_statistics as token_statistics
from xent_jax._version import __version__ as __version__

safe_softmax_cross_entropy = softmax_cross_entropy
"""Another name of ``softmax_cross_entropy``, for code that was written with optax.

There it is the loss that is safe where a label of 0 meets a logit of -inf. Here both are.
"""

__all__ = [
    "LinearHeadPlan",
    "TokenStatistics",
    "__version__",
    "chunked_loss",
    "cross_entropy",
    "entropy",
    "forward_mode",
    "generalized_kl_divergence",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "linear_head_plan",
    "linear_softmax_cross_entropy",
    "linear_token_statistics",
    "log_softmax",
    "logsumexp",
    "poly_loss_cross_entropy",
    "relative_entropy",
    "safe_softmax_cross_entropy",
    "shard_linear_head",
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

from xent_jax import forward_mode as forward_mode  # noqa: E402  last: it wraps the above
