"""What ships, each function with the options that change its backward."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import xent_jax

from ._spec import array, labels, scalar


@dataclass(frozen=True)
class Shipped:
    """An exported function, the arguments it is given by name, and its static options."""

    function: str
    args: Mapping[str, Any]
    wrt: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The function, its arguments and its options."""
        static = [f"{key}={value}" for key, value in self.options.items()]
        return f"{self.function}({', '.join([*self.args, *static])})"

    def fun(self, module: Any = xent_jax) -> Callable[..., Any]:
        """The function of its arguments by position, from the module or from forward_mode."""
        function = getattr(module, self.function)

        def call(*values: Any) -> Any:
            given = dict(zip(self.args, values, strict=True))
            return function(**given, **self.options)

        return call


_Z = {"logits": array("n k")}
_SOFT = {**_Z, "labels": array("n k", positive=True)}
_INTEGER = {**_Z, "labels": labels("n", classes="k")}
_SENTINEL = {**_Z, "labels": labels("n", classes="k", ignore=-100)}
_CLASSES = {"where": array("n k", dtype=np.bool_)}
_EXAMPLES = {"where": array("n", dtype=np.bool_)}
_WEIGHTS = {"class_weights": array("k", positive=True)}
_SMOOTHING = {"label_smoothing": scalar(unit=True)}
_Z_LOSS = {"z_loss": scalar(positive=True)}
_ALL = {**_SMOOTHING, **_Z_LOSS, **_WEIGHTS}
_P = array("n k", positive=True)
_UNIT = {"logits": array("n"), "labels": array("n", unit=True)}
_HARD = {"logits": array("n"), "labels": array("n", dtype=np.bool_)}
_GAMMA = {"gamma": scalar(positive=True)}
_CE, _INT = "softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels"
_MEAN, _SUM = {"reduction": "mean"}, {"reduction": "sum"}


def _ship(function: str, args: Mapping[str, Any], **options: Any) -> Shipped:
    floats = [name for name, spec in args.items() if np.issubdtype(spec.dtype, np.floating)]
    return Shipped(function, args, tuple(floats), options)


SHIPPED: tuple[Shipped, ...] = (
    _ship("softmax", _Z),
    _ship("softmax", {**_Z, **_CLASSES}),
    _ship("log_softmax", _Z),
    _ship("log_softmax", {**_Z, **_CLASSES}),
    _ship("logsumexp", _Z),
    _ship("logsumexp", {**_Z, **_CLASSES}),
    _ship("logsumexp", {**_Z, **_EXAMPLES}),
    _ship("entropy", {"p": _P}),
    _ship("cross_entropy", {"p": _P, "q": _P}),
    _ship("relative_entropy", {"p": _P, "q": _P}),
    _ship("kl_divergence", {"log_predictions": array("n k"), "targets": _P}),
    _ship("kl_divergence", {"log_predictions": array("n k"), "targets": _P, **_CLASSES}),
    _ship(_CE, _SOFT),
    _ship(_CE, {**_SOFT, **_CLASSES}),
    _ship(_CE, {**_SOFT, **_SMOOTHING}),
    _ship(_CE, {**_SOFT, **_Z_LOSS}),
    _ship(_CE, {**_SOFT, **_WEIGHTS}),
    _ship(_CE, {**_SOFT, **_ALL, **_EXAMPLES}, **_MEAN),
    _ship(_CE, _SOFT, **_SUM),
    _ship(_INT, _INTEGER),
    _ship(_INT, {**_INTEGER, **_CLASSES}),
    _ship(_INT, {**_INTEGER, **_SMOOTHING}),
    _ship(_INT, {**_INTEGER, **_Z_LOSS}),
    _ship(_INT, {**_INTEGER, **_WEIGHTS}),
    _ship(_INT, {**_INTEGER, **_SMOOTHING, **_CLASSES}),
    _ship(_INT, _SENTINEL, ignore_index=-100, **_SUM),
    _ship(_INT, _SENTINEL, ignore_index=-100, **_MEAN),
    _ship(_INT, {**_SENTINEL, **_ALL}, ignore_index=-100, **_MEAN),
    _ship("sigmoid_binary_cross_entropy", _UNIT),
    _ship("sigmoid_binary_cross_entropy", _HARD),
    _ship(
        "sigmoid_binary_cross_entropy",
        {**_UNIT, **_SMOOTHING, "pos_weight": array("n", positive=True), **_EXAMPLES},
        **_MEAN,
    ),
    _ship("sigmoid_focal_loss", _HARD),
    _ship("sigmoid_focal_loss", {**_HARD, **_GAMMA}),
    _ship("sigmoid_focal_loss", _UNIT),
    _ship("sigmoid_focal_loss", {**_UNIT, "alpha": scalar(), **_GAMMA}),
    _ship("softmax_focal_loss", _INTEGER),
    _ship("softmax_focal_loss", {**_INTEGER, **_GAMMA}, **_SUM),
    _ship("softmax_focal_loss", {**_SENTINEL, **_GAMMA, **_WEIGHTS}, ignore_index=-100, **_MEAN),
    _ship("poly_loss_cross_entropy", _SOFT),
    _ship("poly_loss_cross_entropy", {**_SOFT, "epsilon": scalar(), **_CLASSES}),
    _ship("softcap", {"logits": array("n"), "cap": scalar(positive=True)}),
)  # fmt: skip
