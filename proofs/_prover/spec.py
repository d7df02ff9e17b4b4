"""Describes the arguments of a function: shapes with named sizes, and the kind of entries."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_FACTOR = r"(?:[A-Za-z_]\w*|[1-9]\d*)"
_DIM = re.compile(rf"{_FACTOR}(?:\*{_FACTOR})*")


@dataclass(frozen=True)
class Spec:
    """The description of one argument, which functions such as ``array`` return."""

    dims: tuple[str, ...]
    positive: bool = False
    nonnegative: bool = False
    unit: bool = False
    dtype: Any = None
    classes: str | None = None
    ignore: int | None = None
    keeps: str | None = None
    permutes: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The named sizes in the argument's dimensions and number of classes."""
        dims = (*self.dims, self.classes or "1")
        return frozenset(f for d in dims for f in d.split("*") if not f.isdigit())

    @property
    def sort(self) -> str:
        """The kind of the entries, in one word."""
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
    """Returns the spec of an array argument, whose entries are any real numbers by default.

    Args:
        dims: its dimensions, separated by spaces: names, numbers, or products of these, such as
            ``"n k"`` or ``"chunks*size k"``.
        positive: whether its entries are above 0.
        nonnegative: whether its entries are at least 0.
        unit: whether its entries are above 0 and below 1.
        dtype: its dtype, such as ``bool`` for a mask; float32 by default.
        keeps: for a mask ``[..., classes]``, the name of a labels argument. The mask is true at the
            class of each label that is not ignored, and may be true or false elsewhere.
    """
    if keeps is not None and np.dtype(dtype) != np.bool_:
        raise ValueError(
            f"array: keeps={keeps!r} is for masks, got dtype {np.dtype(dtype)}. Give dtype=bool."
        )
    return Spec(
        _dims("array: dims", dims), positive, nonnegative, unit, np.dtype(dtype), keeps=keeps
    )


def labels(dims: str, *, classes: str, ignore: int | None = None) -> Spec:
    """Returns the spec of an argument of integer labels in ``[0, classes)``.

    Args:
        dims: its dimensions, as for ``array``.
        classes: the dimension that the labels index, such as ``"k"``.
        ignore: a negative number that labels may also be, such as -100.
    """
    if ignore is not None and ignore >= 0:
        raise ValueError(f"labels: ignore must be negative, got {ignore}.")
    shape, of = _dims("labels: dims", dims), _dims("labels: classes", classes)
    if len(of) != 1:
        raise ValueError(f"labels: classes must be one dimension, like 'k', got {classes!r}.")
    return Spec(shape, dtype=np.dtype(np.int32), classes=of[0], ignore=ignore)


def permutation(dims: str, *, dtype: Any = np.int32) -> Spec:
    """Returns the spec of an integer argument that contains each of 0, ..., n - 1 once.

    An order of n rows is an example.

    Args:
        dims: its only dimension, such as ``"n"``.
        dtype: its integer dtype.
    """
    shape = _dims("permutation: dims", dims)
    if len(shape) != 1:
        raise ValueError(f"permutation: dims must be one dimension, like 'n', got {dims!r}.")
    if not np.issubdtype(dtype, np.integer):
        raise ValueError(f"permutation: dtype must be one of integers, got {np.dtype(dtype)}.")
    return Spec(shape, dtype=np.dtype(dtype), classes=shape[0], permutes=True)


def scalar(
    *,
    positive: bool = False,
    nonnegative: bool = False,
    unit: bool = False,
    dtype: Any = np.float32,
) -> Spec:
    """Returns the spec of a scalar argument, which is an ``array`` without dimensions."""
    return array("", positive=positive, nonnegative=nonnegative, unit=unit, dtype=dtype)


def _dims(what: str, text: str) -> tuple[str, ...]:
    if not isinstance(text, str) or not all(map(_DIM.fullmatch, text.split())):
        raise ValueError(
            f"{what} must be names, numbers or products, with spaces between, like 'n k' or "
            f"'m*c k', got {text!r}."
        )
    return tuple(text.split())


def check(
    function: str,
    called: Sequence[Any],
    args: Any,
    wrt: Any = None,
    least: Mapping[str, int] | None = None,
) -> None:
    """Raises a TypeError or a ValueError if a prover's function was called with wrong arguments."""
    for fun in called:
        if not callable(fun):
            raise TypeError(f"{function}: what is proved must be a function, got {fun!r}.")
    given = args.values() if isinstance(args, Mapping) else [args]
    for spec in given:
        if not isinstance(spec, Spec):
            raise TypeError(
                f"{function}: args must hold a spec for each argument, by name and in order, like "
                f"{{'z': array('n k'), 'y': labels('n', classes='k')}}, got {reprlib.repr(spec)}."
            )
    real = [name for name, spec in args.items() if np.issubdtype(spec.dtype, np.floating)]
    if wrt is not None and (isinstance(wrt, str) or not wrt or not set(wrt) <= set(real)):
        raise ValueError(f"{function}: wrt must hold names of real arguments, {real}, got {wrt!r}.")
    sizes = sorted({d for s in args.values() for d in s.names})
    if not all(d in sizes and isinstance(n, int) and n > 0 for d, n in (least or {}).items()):
        raise ValueError(
            f"{function}: least must give sizes of {sizes}, integers from 1, got {least!r}."
        )
    for name, spec in args.items():
        if spec.keeps is not None and spec.keeps not in args:
            raise ValueError(
                f"{function}: {name} must keep labels that args holds, got keeps={spec.keeps!r}."
            )


def size_of(dim: str, sizes: Mapping[str, int]) -> int:
    """Returns a dimension as a number, given a number for each named size."""
    return math.prod(int(f) if f.isdigit() else sizes[f] for f in dim.split("*"))
