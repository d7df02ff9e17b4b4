"""The types that signatures share."""

from typing import Literal

Axis = int | tuple[int, ...] | None
"""The class axis or axes; None for all of them."""

Reduction = Literal["none", "sum", "mean"]
"""What is done with the losses of the examples."""

KernelAxes = Literal["DV", "VD"]
"""How a linear layer's kernel lies: [D, classes], or [classes, D] as an embedding does."""

AxisName = str | tuple[str, ...]
"""A mesh axis, or several taken as one."""
