"""Types that several signatures share."""

from typing import Any, Literal

import jax.numpy as jnp

Axis = int | tuple[int, ...] | None
"""The class axis or axes; None for all axes."""

Reduction = Literal["none", "sum", "mean"]
"""How the losses of the examples are reduced."""

KernelAxes = Literal["DV", "VD"]
"""The layout of a linear layer's kernel: [D, classes], or [classes, D] as for an embedding."""

AxisName = str | tuple[str, ...]
"""A mesh axis, or several axes that are used as one."""


def accumulator(dtype: Any) -> jnp.dtype:
    """Returns the dtype of losses and sums: float32 for half precision, else the dtype itself."""
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)
