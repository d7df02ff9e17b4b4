"""The theorems about the linear head, with m chunks of s tokens: see ``shipped``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

import xent_jax
from xent_jax._chunks import Chunks

from .._prover.spec import Spec, array, labels, scalar
from . import textbook as book
from .theorem import Case, Kind, Unproved

_X, _KERNEL, _B, _T = array("m s d"), array("d k"), array("k"), array("m s k")
# In forward mode a sum or mean is plain JAX around what "none" gives, and slow to read.
_FIRST: tuple[Kind, ...] = ("gradient",)
_BOTH: tuple[Kind, ...] = ("gradient", "forward mode")
_INTEGER = "linear_softmax_cross_entropy"
_STATISTICS = "linear_token_statistics"
Loss = Callable[..., Any]


def _integer(options: str, more: Mapping[str, Spec], wrt: str, names: str, **fixed: Any) -> Case:
    """Returns a case; ``names`` pairs options of the library with those of the reference."""
    pairs = [n.split("=") for n in ("bias=b " + names).split()]
    y = labels("m s", classes="k", ignore=fixed.get("ignore"))
    args = {"x": _X, "w": _KERNEL, "y": y, "b": _B, **more}
    shipped = {"ignore": "ignore_index"}

    def call(library: Any, x: Any, w: Any, y: Any, *values: Any) -> Any:
        given = {ours: v for (ours, _), v in zip(pairs, values, strict=True)}
        given |= {shipped.get(k, k): v for k, v in fixed.items()}
        given["max_logits_bytes"] = Chunks(x.shape[1], in_place=True)
        return library.linear_softmax_cross_entropy(x, w, y, **given)

    def reference(x: Any, w: Any, y: Any, *values: Any) -> Any:
        given = {theirs: v for (_, theirs), v in zip(pairs, values, strict=True)}
        lies = fixed.get("kernel_axes", "DV")
        options = {k: v for k, v in fixed.items() if k != "kernel_axes"}
        return book.head_loss(x, w if lies == "DV" else w.T, y, **given, **options)

    kinds = _BOTH if fixed["reduction"] == "none" else _FIRST
    return Case(_INTEGER, options, call, args, wrt, reference, kinds=kinds)


def _integers() -> list[Case]:
    left, weights = {"left": array("m s", dtype=bool)}, {"v": array("m s", positive=True)}
    smoothing, c = scalar(unit=True), scalar(nonnegative=True)
    options = {"e": smoothing, "c": c, "v": array("k", positive=True)}
    every = "label_smoothing=smoothing z_loss=c class_weights=w"
    cases = [
        _integer("sum", {}, "x w b", "", reduction="sum"),
        _integer(
            "kernel [k, d], mean",
            {"w": array("k d")},
            "x w b",
            "",
            reduction="mean",
            kernel_axes="VD",
        ),
        _integer("mean, to the bias", {}, "b", "", reduction="mean"),
        _integer("weights and masked tokens, mean", left | weights, "x w b v",
                 "where=examples weights=v", reduction="mean"),
        _integer("weights, none", weights, "x w b v", "weights=v", reduction="none"),
    ]  # fmt: skip
    for reduction in ("mean", "none"):
        cases += [
            _integer(reduction, {}, "x w b", "", reduction=reduction),
            _integer(f"ignore_index, masked tokens, {reduction}", left, "x w b", "where=examples",
                     ignore=-100, reduction=reduction),
            _integer(f"label_smoothing, z_loss, class_weights, {reduction}", options,
                     "x w b e c v", every, reduction=reduction),
        ]  # fmt: skip
    return cases


def _any(options: str, target: Spec, wrt: str, loss: Loss, truth: Loss, **more: Any) -> Case:
    """Returns a case for the head of ``loss(library, *more)``; ``truth`` takes the logits."""
    reduction, kinds = more.pop("reduction"), more.pop("kinds", _FIRST)
    transform, has_aux = more.pop("transform", lambda *_: None), more.pop("has_aux", False)
    args = {"x": _X, "w": _KERNEL, "t": target, "b": _B, **more}

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
        return book.reduced(truth(x @ w + b, t, *values), reduction, None)

    name = f"{options}, {reduction}"
    return Case("with_linear_head", name, call, args, wrt, reference, kinds=kinds)


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
        _any("softmax_cross_entropy", _T, "x w b t", lambda lib, *_: lib.softmax_cross_entropy,
             book.soft_loss, reduction="none", kinds=_BOTH),
        _any("softmax_cross_entropy", _T, "x w b t", lambda lib, *_: lib.softmax_cross_entropy,
             book.soft_loss, reduction="mean"),
        _any("poly_loss_cross_entropy", _T, "x w b t", lambda lib, *_: lib.poly_loss_cross_entropy,
             lambda z, t: book.poly_loss(z, t, 2.0), reduction="none"),
        _any("a loss that closes over c", _T, "x w b t c",
             lambda lib, c: lambda z, t: lib.softmax_cross_entropy(z, t, z_loss=c),
             lambda z, t, c: book.soft_loss(z, t, c=c), reduction="mean", c=c),
        _any("a loss with aux", _T, "x w b t", _with_aux, book.soft_loss, reduction="mean",
             has_aux=True),
        Case("with_linear_head", "the aux", _aux, {"x": _X, "w": _KERNEL, "t": _T, "b": _B}, "",
             lambda x, w, t, b: _linear(x @ w + b, t), kinds=("value",)),
        _any("a loss of one's own", _T, "x w b t", _own, _own_truth, reduction="mean"),
        _any("a loss of one's own", _T, "x", _own, _own_truth, reduction="none",
             kinds=("second order",)),
        _any("a linear loss, soft cap", _T, "x w b t cap", lambda *_: _linear,
             lambda z, t, cap: _linear(book.softcap(z, cap), t), reduction="none",
             transform=lambda cap: lambda z: xent_jax.softcap(z, cap), cap=cap),
    ]  # fmt: skip


def _statistics() -> list[Case]:
    y = labels("m s", classes="k")
    args = {"x": _X, "w": _KERNEL, "y": y, "b": _B}

    def one(field: str, truth: Loss, kinds: tuple[Kind, ...] = _BOTH) -> Case:
        def call(library: Any, x: Any, w: Any, y: Any, b: Any) -> Any:
            chunks = Chunks(x.shape[1], in_place=True)
            found = library.linear_token_statistics(x, w, y, b, max_logits_bytes=chunks)
            return getattr(found, field)

        def reference(x: Any, w: Any, y: Any, b: Any) -> Any:
            return truth(x @ w + b, y)

        return Case(_STATISTICS, field, call, args, "x w b", reference, kinds=kinds)

    return [
        one("loss", book.integer_loss),
        one("logsumexp", lambda z, _: book.logsumexp(z)),
        one("entropy", lambda z, _: book.softmax_entropy(z)),
        one("label_rank", book.label_rank, ("value",)),
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
    Unproved(_INTEGER, "temperature", "the second engine, in the tests, must agree "
             "and cannot decide exponentials of quotients; test_head.py compares"),
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
