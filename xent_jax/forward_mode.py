"""The functions of xent_jax for forward-mode differentiation.

JAX does not allow ``jvp`` through a ``custom_vjp``. The functions of this module use a
``custom_jvp`` instead, whose rule is the transpose of the same backward function. So ``jax.jvp``,
``jax.linearize`` and ``jax.jacfwd`` work, and ``jax.grad`` works as before.

``with_linear_head`` takes losses that are differentiable in forward mode: those of this module, or
your own. A loss of ``xent_jax``, or a ``functools.partial`` of one, is replaced by the function of
this module. Inside a loss of your own, call the functions of this module.
"""

from typing import TYPE_CHECKING

from xent_jax._modes import forward_functions

if TYPE_CHECKING:  # the same names and signatures
    from xent_jax import *  # noqa: F403

# ``xent_jax`` imports this module last, when all of its functions are made.
_functions = forward_functions()
_functions["safe_softmax_cross_entropy"] = _functions["softmax_cross_entropy"]
globals().update(_functions)

__all__ = sorted(_functions)
