"""What is known of each argument of a function to be proved."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Spec:
    """An argument: its dimensions by name, its dtype, and what its values satisfy."""

    dims: tuple[str, ...]
    dtype: Any = np.float32
    positive: bool = False
    nonnegative: bool = False
    classes: str | None = None
    ignore: int | None = None


def array(dims: str, *, positive=False, nonnegative=False, dtype=np.float32) -> Spec:
    """An array, its dimensions named in one string."""
    return Spec(tuple(dims.split()), np.dtype(dtype), positive, nonnegative)


def labels(dims: str, *, classes: str, ignore: int | None = None) -> Spec:
    """Integer labels below ``classes``, or the sentinel ``ignore``."""
    return Spec(tuple(dims.split()), np.dtype(np.int32), classes=classes, ignore=ignore)


def scalar(*, positive=False, nonnegative=False) -> Spec:
    """A number."""
    return Spec((), np.dtype(np.float32), positive, nonnegative)
