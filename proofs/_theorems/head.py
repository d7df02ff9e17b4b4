"""Lists the theorems about the linear head, with m chunks of s tokens each, for ``shipped``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

import xent_jax
from xent_jax._chunks import Chunks

from .._prover.spec import Spec, array, labels, scalar
from . import textbook as book
from .theorem import FIRST, GRADIENT, SECOND, VALUE, Case, Kind, Unproved, case

_X, _KERNEL, _B, _T = array("m s d"), array("d k"), array("k"), array("m s k")
_INTEGER = "linear_softmax_cross_entropy"
_STATISTICS = "linear_token_statistics"
_ANY: dict[str, Spec] = {"x": _X, "w": _KERNEL, "t": _T, "b": _B}
Loss = Callable[..., Any]


def _of_head(
    function: str, options: str, reference: Loss, args: Any = None, given: Any = None, **more: Any
) -> Case:
    """Returns a case of the linear head, with inputs, kernel, labels and bias."""
    args = {"x": _X, "w": _KERNEL, "y": labels("m s", classes="k")} | (args or {})
    return case(function, options, reference, args, {"bias": _B} | (given or {}), chunk=1, **more)


def _integers() -> list[Case]:
    where, weights = {"where": array("m s", dtype=bool)}, {"weights": array("m s", positive=True)}
    every = {
        "label_smoothing": scalar(unit=True), "z_loss": scalar(nonnegative=True),
        "class_weights": array("k", positive=True),
    }  # fmt: skip

    def one(options: str, args: Any = None, given: Any = None, **fixed: Any) -> Case:
        # In forward mode, a sum or mean is plain JAX around the losses of "none": slow to prove.
        kinds = FIRST if fixed["reduction"] == "none" else GRADIENT
        return _of_head(_INTEGER, options, book.head_loss, args, given, kinds=kinds, **fixed)

    cases = [
        one("sum", reduction="sum"),
        one("kernel [k, d], mean", {"w": array("k d")}, reduction="mean", kernel_axes="VD"),
        one("mean, to the bias", to=("bias",), reduction="mean"),
        one("weights and masked tokens, mean", {}, weights | where, reduction="mean"),
        one("temperature, mean", {}, {"temperature": scalar(positive=True)}, reduction="mean"),
        one("weights, none", {}, weights, reduction="none"),
    ]
    ignored = {"y": labels("m s", classes="k", ignore=-100)}
    for reduction in ("mean", "none"):
        cases += [
            one(reduction, reduction=reduction),
            one(f"ignore_index, masked tokens, {reduction}", ignored, where, ignore_index=-100,
                reduction=reduction),
            one(f"label_smoothing, z_loss, class_weights, {reduction}", {}, every,
                reduction=reduction),
        ]  # fmt: skip
    return cases


def _head(library: Any, x: Any, loss: Loss, **options: Any) -> Any:
    chunks = Chunks(x.shape[1], in_place=True)
    return library.with_linear_head(loss, max_logits_bytes=chunks, **options)


def _any(
    options: str,
    loss: Loss,
    truth: Loss,
    reduction: str,
    given: dict[str, Spec] | None = None,
    *,
    transform: Loss = lambda *_: None,
    has_aux: bool = False,
    to: Any = None,
    kinds: tuple[Kind, ...] = GRADIENT,
) -> Case:
    """Returns a case of the head of ``loss(library, *given)``; ``truth`` is the loss of logits."""

    def call(library: Any, x: Any, w: Any, t: Any, b: Any, *values: Any) -> Any:
        fixed = {"reduction": reduction, "has_aux": has_aux}
        own, cap = loss(library, *values), transform(*values)
        value = _head(library, x, own, logit_transform=cap, **fixed)(x, w, t, bias=b)
        return value[0] if has_aux else value

    def reference(x: Any, w: Any, t: Any, b: Any, *values: Any) -> Any:
        return book.reduced(truth(x @ w + b, t, *values), reduction=reduction)

    name = f"{options}, {reduction}"
    return Case("with_linear_head", name, call, _ANY | (given or {}), reference, to, kinds=kinds)


def _linear(z: Any, t: Any) -> Any:
    return jnp.sum(t * z, axis=-1)


def _own(z: Any, t: Any) -> Any:
    """Returns a loss in plain JAX, as users may write their own."""
    return book.logsumexp(z) - _linear(z, t)


def _with_aux(library: Any) -> Loss:
    """Returns a loss with an auxiliary output, which depends on the logits."""
    return lambda z, t: (library.softmax_cross_entropy(z, t), _linear(z, t))


def _aux(library: Any, x: Any, w: Any, t: Any, b: Any) -> Any:
    """Returns the auxiliary output of the head of ``_with_aux``."""
    return _head(library, x, _with_aux(library), has_aux=True)(x, w, t, bias=b)[1]


def _others() -> list[Case]:
    c, cap = {"c": scalar(nonnegative=True)}, {"cap": scalar(positive=True)}

    def soft(library: Any) -> Any:
        return library.softmax_cross_entropy

    return [
        _any("softmax_cross_entropy", soft, book.soft_loss, "none", kinds=FIRST),
        _any("softmax_cross_entropy", soft, book.soft_loss, "mean"),
        _any("poly_loss_cross_entropy", lambda lib: lib.poly_loss_cross_entropy,
             lambda z, t: book.poly_loss(z, t, 2.0), "none"),
        _any("a loss that closes over c",
             lambda lib, c: lambda z, t: lib.softmax_cross_entropy(z, t, z_loss=c),
             lambda z, t, c: book.soft_loss(z, t, z_loss=c), "mean", c),
        _any("a loss with aux", _with_aux, book.soft_loss, "mean", has_aux=True),
        Case("with_linear_head", "the aux", _aux, _ANY,
             lambda x, w, t, b: _linear(x @ w + b, t), (), kinds=VALUE),
        _any("a loss of one's own", lambda _: _own, _own, "mean"),
        _any("a loss of one's own", lambda _: _own, _own, "none", to=("x",), kinds=SECOND),
        _any("a linear loss, soft cap", lambda *_: _linear,
             lambda z, t, cap: _linear(book.softcap(z, cap), t), "none", cap,
             transform=lambda cap: lambda z: xent_jax.softcap(z, cap)),
    ]  # fmt: skip


def _statistics() -> list[Case]:
    def one(field: str, truth: Loss, options: str = "", given: Any = None, **more: Any) -> Case:
        def reference(x: Any, w: Any, y: Any, bias: Any, temperature: Any = 1) -> Any:
            return truth((x @ w + bias) / temperature, y)

        return _of_head(_STATISTICS, field + options, reference, {}, given, output=field, **more)

    fields = book.TOKEN_STATISTICS.items()
    temperature = {"temperature": scalar(positive=True)}
    return [
        *(one(field, truth, kinds=FIRST) for field, truth in fields),
        *(one(field, truth, ", temperature", temperature, kinds=FIRST) for field, truth in fields),
        one("label_rank", book.label_rank, to=(), kinds=VALUE),
    ]


CASES = (*_integers(), *_others(), *_statistics())
UNPROVED = (
    *(Unproved(name, "second order", "it is not decided by both engines around a loss that has its "
               "own derivative rule; it is proved for the loss of logits, and to the inputs for "
               "the head around a loss in plain JAX, and test_head.py compares")
      for name in (_INTEGER, _STATISTICS)),
    Unproved(_INTEGER, "logit_softcap", "the prover does not see that the exponentials of capped "
             "logits are together positive without that of the label; the cap around a linear "
             "loss, the cap alone and the loss alone are proved, and test_head.py compares"),
    Unproved("with_linear_head", "the kernel's gradient in pieces", "on CPU it is summed for some "
             "of the classes at a time; the prover cannot read these slices for all sizes; "
             "test_head_proofs.py proves a small size, and test_head.py compares"),
    Unproved("with_linear_head", "tokens that are left out", "the theorems with a mask are of the "
             "loop that leaves such tokens in their chunks; the prover cannot read the sort and "
             "the gathers of the loop that skips them; test_masked_tokens.py compares"),
    Unproved("chunked_loss", "any loss", "it takes whatever JAX derives of the loss, in the loop "
             "that the theorems of the linear head read; test_chunked_loss.py compares it with "
             "jax.grad"),
    Unproved("with_linear_head", "sizes that no chunk divides", "the chunks then overlap, and the "
             "prover cannot read their slices for all sizes; test_head_proofs.py proves a small "
             "size, and test_head.py compares"),
)  # fmt: skip
