"""The theorems about the linear head, with m chunks of s tokens: see ``shipped``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

import xent_jax
from xent_jax._chunks import Chunks

from .._prover.spec import Spec, array, labels, scalar
from . import textbook as book
from .theorem import Case, Kind, Unproved, called

_X, _KERNEL, _B, _T = array("m s d"), array("d k"), array("k"), array("m s k")
# In forward mode a sum or mean is plain JAX around what "none" gives, and slow to read.
_FIRST: tuple[Kind, ...] = ("gradient",)
_BOTH: tuple[Kind, ...] = ("gradient", "forward mode")
_INTEGER = "linear_softmax_cross_entropy"
_STATISTICS = "linear_token_statistics"
_ANY: dict[str, Spec] = {"x": _X, "w": _KERNEL, "t": _T, "b": _B}
Loss = Callable[..., Any]


def _of_head(
    function: str,
    options: str,
    reference: Loss,
    args: Any,
    given: Any = None,
    output: str = "",
    kinds: tuple[Kind, ...] = _BOTH,
    to: Any = None,
    **fixed: Any,
) -> Case:
    """A case of a head of inputs, kernel and labels, like those of ``theorem.case``."""
    args = {"x": _X, "w": _KERNEL, "y": labels("m s", classes="k")} | args
    given = {"bias": _B} | (given or {})

    def call(library: Any, x: Any, *values: Any) -> Any:
        chunks = Chunks(x.shape[1], in_place=True)
        named = fixed | {"max_logits_bytes": chunks}
        found = called(getattr(library, function), given, (x, *values), named)
        return getattr(found, output) if output else found

    def wanted(*values: Any) -> Any:
        return called(reference, given, values, fixed)

    return Case(function, options, call, args | given, wanted, to, kinds=kinds)


def _integers() -> list[Case]:
    where, weights = {"where": array("m s", dtype=bool)}, {"weights": array("m s", positive=True)}
    every = {
        "label_smoothing": scalar(unit=True), "z_loss": scalar(nonnegative=True),
        "class_weights": array("k", positive=True),
    }  # fmt: skip

    def one(options: str, args: Any = None, given: Any = None, **fixed: Any) -> Case:
        kinds = _BOTH if fixed["reduction"] == "none" else _FIRST
        return _of_head(_INTEGER, options, book.head_loss, args or {}, given, kinds=kinds, **fixed)

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


def _any(options: str, loss: Loss, truth: Loss, **more: Any) -> Case:
    """Returns a case for the head of ``loss(library, *more)``; ``truth`` takes the logits."""
    reduction, kinds = more.pop("reduction"), more.pop("kinds", _FIRST)
    transform, has_aux = more.pop("transform", lambda *_: None), more.pop("has_aux", False)
    to, args = more.pop("to", None), _ANY | more

    def call(library: Any, x: Any, w: Any, t: Any, b: Any, *values: Any) -> Any:
        head = library.with_linear_head(
            loss(library, *values),
            reduction=reduction,
            logit_transform=transform(*values),
            max_logits_bytes=Chunks(x.shape[1], in_place=True),
            has_aux=has_aux,
        )
        value = head(x, w, t, bias=b)
        return value[0] if has_aux else value

    def reference(x: Any, w: Any, t: Any, b: Any, *values: Any) -> Any:
        return book.reduced(truth(x @ w + b, t, *values), reduction)

    name = f"{options}, {reduction}"
    return Case("with_linear_head", name, call, args, reference, to, kinds=kinds)


def _own(library: Any, *_: Any) -> Loss:
    """A user's own loss, in plain JAX."""
    return lambda z, t: jnp.log(jnp.sum(jnp.exp(z), -1)) - jnp.sum(t * z, -1)


def _own_truth(z: Any, t: Any) -> Any:
    return book.logsumexp(z) - jnp.sum(t * z, axis=-1)


def _with_aux(library: Any, *_: Any) -> Loss:
    """A loss with an auxiliary output that depends on the logits and has no gradient."""
    return lambda z, t: (library.softmax_cross_entropy(z, t), jnp.sum(t * z, -1))


def _linear(z: Any, t: Any) -> Any:
    return jnp.sum(t * z, axis=-1)


def _aux(library: Any, x: Any, w: Any, t: Any, b: Any) -> Any:
    """The auxiliary output of the head of ``_with_aux``."""
    chunks = Chunks(x.shape[1], in_place=True)
    head = library.with_linear_head(_with_aux(library), has_aux=True, max_logits_bytes=chunks)
    return head(x, w, t, bias=b)[1]


def _others() -> list[Case]:
    c, cap = scalar(nonnegative=True), scalar(positive=True)
    return [
        _any("softmax_cross_entropy", lambda lib, *_: lib.softmax_cross_entropy,
             book.soft_loss, reduction="none", kinds=_BOTH),
        _any("softmax_cross_entropy", lambda lib, *_: lib.softmax_cross_entropy,
             book.soft_loss, reduction="mean"),
        _any("poly_loss_cross_entropy", lambda lib, *_: lib.poly_loss_cross_entropy,
             lambda z, t: book.poly_loss(z, t, 2.0), reduction="none"),
        _any("a loss that closes over c",
             lambda lib, c: lambda z, t: lib.softmax_cross_entropy(z, t, z_loss=c),
             lambda z, t, c: book.soft_loss(z, t, z_loss=c), reduction="mean", c=c),
        _any("a loss with aux", _with_aux, book.soft_loss, reduction="mean",
             has_aux=True),
        Case("with_linear_head", "the aux", _aux, _ANY,
             lambda x, w, t, b: _linear(x @ w + b, t), (), kinds=("value",)),
        _any("a loss of one's own", _own, _own_truth, reduction="mean"),
        _any("a loss of one's own", _own, _own_truth, reduction="none", to=("x",),
             kinds=("second order",)),
        _any("a linear loss, soft cap", lambda *_: _linear,
             lambda z, t, cap: _linear(book.softcap(z, cap), t), reduction="none",
             transform=lambda cap: lambda z: xent_jax.softcap(z, cap), cap=cap),
    ]  # fmt: skip


def _statistics() -> list[Case]:
    def one(field: str, truth: Loss, options: str = "", given: Any = None, **more: Any) -> Case:
        def reference(x: Any, w: Any, y: Any, bias: Any, temperature: Any = 1) -> Any:
            return truth((x @ w + bias) / temperature, y)

        return _of_head(_STATISTICS, field + options, reference, {}, given, field, **more)

    fields: dict[str, Loss] = {
        "loss": book.integer_loss,
        "logsumexp": lambda z, _: book.logsumexp(z),
        "entropy": lambda z, _: book.softmax_entropy(z),
    }
    temperature = {"temperature": scalar(positive=True)}
    return [
        *(one(field, truth) for field, truth in fields.items()),
        *(one(field, truth, ", temperature", temperature) for field, truth in fields.items()),
        one("label_rank", book.label_rank, to=(), kinds=("value",)),
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
