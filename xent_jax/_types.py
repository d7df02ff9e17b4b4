"""The types that signatures share."""

from typing import Literal

Axis = int | tuple[int, ...] | None
"""The class axis or axes; None for all of them."""

Reduction = Literal["none", "sum", "mean"]
"""What is done with the losses of the examples."""
