"""What is proved of the linear head, which is not exported yet: see ``_theorems``.

The tokens stand in m chunks of s, so that nothing is said of sizes that no chunk divides,
of the soft cap around the loss, and of second derivatives: the parts of the last two are
proved alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xent_jax import forward_mode
from xent_jax._chunks import chunks_of
from xent_jax._closed_form import differentiable_forward
from xent_jax._linear import linear_softmax_cross_entropy

from . import _textbook as book
from ._spec import Spec, array, labels, scalar
from ._theorems import Case, Kind, theorems_of

_HEAD = "linear_softmax_cross_entropy"
_FORWARD = differentiable_forward(linear_softmax_cross_entropy)


def _head(options: str, more: Mapping[str, Spec], wrt: str, names: str, **fixed: Any) -> Case:
    """The tokens in m chunks of s; ``names`` pairs the shipped options and the reference's."""
    pairs = [n.split("=") for n in ("bias=b " + names).split()]
    y = labels("m s", classes="k", ignore=fixed.get("ignore"))
    args = {"x": array("m s d"), "w": array("d k"), "y": y, "b": array("k")}
    shipped = {"ignore": "ignore_index"}
    # A sum or a mean of what ``none`` gives is plain JAX in forward mode, and slow to read.
    whole: tuple[Kind, ...] = ("gradient", "forward mode")
    kinds = whole if fixed["reduction"] == "none" else whole[:1]

    def call(library: Any, x: Any, w: Any, y: Any, *values: Any) -> Any:
        given = {ours: v for (ours, _), v in zip(pairs, values, strict=True)}
        given |= {shipped.get(k, k): v for k, v in fixed.items()}
        with chunks_of(x.shape[1]):
            forward = library is forward_mode
            return (_FORWARD if forward else linear_softmax_cross_entropy)(x, w, y, **given)

    def reference(x: Any, w: Any, y: Any, *values: Any) -> Any:
        given = {theirs: v for (_, theirs), v in zip(pairs, values, strict=True)}
        return book.head_loss(x, w, y, **given, **fixed)

    return Case(_HEAD, options, call, {**args, **more}, wrt, reference, kinds=kinds)


def _heads() -> list[Case]:
    left = {"left": array("m s", dtype=bool)}
    smoothing, c = scalar(unit=True), scalar(nonnegative=True)
    options = {"e": smoothing, "c": c, "v": array("k", positive=True)}
    every = "label_smoothing=smoothing z_loss=c class_weights=w"
    cases = [
        _head("sum", {}, "x w b", "", reduction="sum"),
        _head("mean, to the bias", {}, "b", "", reduction="mean"),
    ]
    for reduction in ("mean", "none"):
        cases += [
            _head(reduction, {}, "x w b", "", reduction=reduction),
            _head(f"ignore_index, masked tokens, {reduction}", left, "x w b", "where=examples",
                  ignore=-100, reduction=reduction),
            _head(f"label_smoothing, z_loss, class_weights, {reduction}", options,
                  "x w b e c v", every, reduction=reduction),
        ]  # fmt: skip
    return cases


HEADS = tuple(t for case in _heads() for t in theorems_of(case))
