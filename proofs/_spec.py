"""The arguments of a function to be proved: shapes by name, and what their entries are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_FACTOR = r"(?:[A-Za-z_]\w*|[1-9]\d*)"
_DIM = re.compile(rf"{_FACTOR}(?:\*{_FACTOR})*")


@dataclass(frozen=True)
class Spec:
    """One argument."""

    dims: tuple[str, ...]
    positive: bool = False
    nonnegative: bool = False
    unit: bool = False
    dtype: Any = None
    classes: str | None = None
    ignore: int | None = None
    keeps: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """The named sizes that its dimensions and classes are made of."""
        dims = (*self.dims, self.classes or "1")
        return frozenset(f for d in dims for f in d.split("*") if not f.isdigit())

    @property
    def sort(self) -> str:
        """What the entries are, in one word."""
        if self.classes is not None:
            return "index"
        if np.dtype(self.dtype) == np.bool_:
            return "boolean"
        if np.issubdtype(self.dtype, np.integer):
            return "integer"
        if self.unit:
            return "unit"
        return "positive" if self.positive else "nonnegative" if self.nonnegative else "real"


def array(
    dims: str,
    *,
    positive: bool = False,
    nonnegative: bool = False,
    unit: bool = False,
    dtype: Any = np.float32,
    keeps: str | None = None,
) -> Spec:
    """An array argument.

    Args:
        dims: its dimensions, separated by spaces: names, numbers, or products of them,
            ``"n k"``, ``"chunks*size k"``.
        positive: its entries are above 0; ``nonnegative``: at least 0; ``unit``: above 0
            and below 1. Without, they are any real numbers.
        dtype: ``bool`` for a mask; float32 without.
        keeps: for a mask ``[..., classes]``, the name of a labels argument: the mask is
            true at the class of each label that is not ignored, elsewhere it is free.
    """
    if keeps is not None and np.dtype(dtype) != np.bool_:
        raise ValueError("array: keeps is for masks; give dtype=bool with it.")
    return Spec(_dims(dims), positive, nonnegative, unit, np.dtype(dtype), keeps=keeps)


def labels(dims: str, *, classes: str, ignore: int | None = None) -> Spec:
    """Integer labels in ``[0, classes)``.

    Args:
        dims: as for ``array``.
        classes: the dimension that they index.
        ignore: a number out of that range that labels may also be, such as -100.
    """
    if ignore is not None and ignore >= 0:
        raise ValueError(f"labels: ignore must be negative, got {ignore}.")
    return Spec(_dims(dims), dtype=np.dtype(np.int32), classes=_dims(classes)[0], ignore=ignore)


def scalar(
    *,
    positive: bool = False,
    nonnegative: bool = False,
    unit: bool = False,
    dtype: Any = np.float32,
) -> Spec:
    """A scalar argument: an ``array`` without dimensions."""
    return array("", positive=positive, nonnegative=nonnegative, unit=unit, dtype=dtype)


def _dims(text: str) -> tuple[str, ...]:
    dims = tuple(text.split())
    for d in dims:
        if not _DIM.fullmatch(d):
            raise ValueError(
                f"dimensions are names, numbers or products, like 'n k' or 'm*c k', got {d!r}."
            )
    return dims


def size_of(dim: str, sizes: Mapping[str, int]) -> int:
    """The number that a dimension is, where each name has a size."""
    return math.prod(int(f) if f.isdigit() else sizes[f] for f in dim.split("*"))
