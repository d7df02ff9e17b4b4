"""Lists the theorems about m shards of k classes each, for every m, for ``shipped``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from xent_jax import forward_mode

from .._prover.spec import Spec, array, labels, scalar
from . import textbook as book
from .in_shards import Axes, in_shards
from .textbook_parts import SHARDS, per_class, reduced
from .theorem import ALL, FIRST, GRADIENT, SECOND, Case, Unproved, case

_Z, _W, _WEIGHTS = array("m n k"), array("m k"), array("m k", positive=True)
_Y, _IGNORED = labels("n", classes="m*k"), labels("n", classes="m*k", ignore=-100)
_EXAMPLES, _CLASSES = array("n", dtype=bool), array("m n k", dtype=bool)
_E, _C, _S = scalar(unit=True), scalar(nonnegative=True), scalar()
_INTEGER = "softmax_cross_entropy_with_integer_labels"
_SOFT, _HEAD = "softmax_cross_entropy", "linear_softmax_cross_entropy"
_BY_CLASS, _BY_EXAMPLE = {"axis_name": "m"}, {"batch_axis_name": "b"}
_NOTE = "; in every shard, each with its own cotangent"
Local = Callable[..., Any]


def _case(
    function: str,
    options: str,
    truth: Local,
    args: Mapping[str, Spec],
    given: Mapping[str, Spec] | None = None,
    *,
    axes: Mapping[str, str] = _BY_CLASS,
    divided: str = "classes in shards",
    **more: Any,
) -> Case:
    """Returns a case as ``theorem.case`` does, in which every shard calls the library's function.

    ``truth`` takes the whole arrays, and ``over=SHARDS`` if their classes are in shards. ``axes``
    has the options that name mesh axes, and the letters of these axes.
    """
    if "axis_name" in axes:
        truth = partial(truth, over=SHARDS)
    plain = case(function, ", ".join(filter(None, (divided, options))), truth, args, given, **more)
    over = ["".join(d for d in spec.dims if d in "bm") for spec in plain.args.values()]

    def shipped(library: Any, *values: Any) -> Any:
        def local(sized: Axes, *parts: Any) -> Any:
            return plain.call(library, *parts, **{k: sized[axis] for k, axis in axes.items()})

        return in_shards(local, *over, forward=library is forward_mode)(*values)

    def reference(*values: Any) -> Any:
        out = plain.reference(*values)
        of_classes = function in ("softmax", "log_softmax")  # each shard returns its own classes
        return out if of_classes else _copied(out, over, values)

    return replace(plain, call=shipped, reference=reference, note=_NOTE)


def _copied(out: Any, over: Sequence[str], values: Sequence[Any]) -> Any:
    """Returns a copy of ``out`` for each shard; ``over`` has the mesh axes of each value."""
    axes, x = max(zip(over, values, strict=True), key=lambda pair: len(pair[0]))
    return jnp.broadcast_to(out, (*x.shape[: len(axes)], *out.shape))


def _softmaxes() -> list[Case]:
    z, classes = {"z": _Z}, {"where": _CLASSES}
    return [
        _case("softmax", "", book.softmax, z),
        _case("softmax", "masked classes",
              lambda z, where, over: jnp.where(where, book.softmax(z, where, over), 0.0), z,
              classes, kinds=FIRST),
        _case("log_softmax", "", book.log_softmax, z),
        _case("logsumexp", "", book.logsumexp, z),
        _case("softmax_entropy", "", book.softmax_entropy, z),
    ]  # fmt: skip


def _losses() -> list[Case]:
    zy, zi, zt = {"z": _Z, "y": _Y}, {"z": _Z, "y": _IGNORED}, {"z": _Z, "t": _Z}
    e, c, w = {"label_smoothing": _E}, {"z_loss": _C}, {"class_weights": _WEIGHTS}
    zw, epsilon, poly = {"z": _Z, "w": _Z}, {"epsilon": _S}, "poly_loss_cross_entropy"

    def integer(
        options: str, args: Any, given: Any = None, kinds: Any = FIRST, **more: Any
    ) -> Case:
        return _case(_INTEGER, options, book.integer_loss, args, given, kinds=kinds, **more)

    def soft(options: str, given: Any = None, **more: Any) -> Case:
        return _case(_SOFT, options, book.soft_loss, zt, given, **more)

    return [
        integer("", zy, kinds=ALL),
        integer("mean", zy, reduction="mean"),
        integer("ignore_index, mean", zi, kinds=ALL, ignore_index=-100, reduction="mean"),
        integer("masked examples, mean", zy, {"where": _EXAMPLES}, reduction="mean"),
        integer("label_smoothing", zy, e),
        integer("z_loss", zy, c),
        integer("class_weights", zy, {"class_weights": _W}),
        integer("ignore_index, all options, mean", zi, e | c | w, ignore_index=-100,
                reduction="mean"),
        integer("all options", zy, e | c | w, SECOND),
        soft(""),
        soft("all options, mean", e | c | w, kinds=GRADIENT, reduction="mean"),
        soft("all options", e | c | w, kinds=SECOND),
        soft("masked classes", {"where": _CLASSES}, to=("z",)),
        _case(poly, "", book.poly_loss, zt, epsilon),
        _case("softmax_kl_divergence", "", book.softmax_kl, zw, kinds=FIRST),
        _case("softmax_jensen_shannon_divergence", "", book.softmax_jensen_shannon, zw,
              kinds=FIRST),
        _case("softmax_focal_loss", "", book.focal_loss, zy, {"gamma": _C}, least={"k": 2},
              kinds=FIRST),
    ]  # fmt: skip


def _batches() -> list[Case]:
    """Returns cases with the classes in shards, and the examples in b shards of n each."""
    args = {"z": array("b m n k"), "y": labels("b n", classes="m*k", ignore=-100)}

    def truth(z: Any, y: Any, ignore_index: int, reduction: str, **over: Any) -> Any:
        loss: Local = partial(book.integer_loss, ignore_index=ignore_index, **over)
        return reduced(jax.vmap(loss)(z, y), y != ignore_index, reduction=reduction)

    return [
        _case(_INTEGER, f"examples too, ignore_index, {reduction}", truth, args, kinds=FIRST,
              ignore_index=-100, reduction=reduction, axes=_BY_CLASS | _BY_EXAMPLE)
        for reduction in ("sum", "mean")
    ]  # fmt: skip


def _examples() -> list[Case]:
    """Returns cases with only the examples in shards: b shards of n examples each."""
    z, y = {"z": array("b n k")}, {"y": labels("b n", classes="k")}
    alone: Any = {
        "reduction": "sum", "axes": _BY_EXAMPLE, "kinds": GRADIENT, "divided": "examples in shards",
    }  # fmt: skip

    def summed(function: str, truth: Local, args: Mapping[str, Spec], **more: Any) -> Case:
        def of_all(*args: Any, reduction: str) -> Any:
            return jnp.sum(jax.vmap(truth)(*args))

        return _case(function, "sum", of_all, args, **more, **alone)

    of_tokens = {"x": array("b n d"), "w": array("d k"), **y, "c": array("k")}
    return [
        summed(_SOFT, book.soft_loss, z | {"t": array("b n k")}),
        summed("softmax_focal_loss", lambda z, y: book.focal_loss(z, y, gamma=2.0), z | y,
               least={"k": 2}),
        summed("softmax_kl_divergence", book.softmax_kl, z | {"w": array("b n k")}),
        summed("softmax_jensen_shannon_divergence", book.softmax_jensen_shannon,
               z | {"w": array("b n k")}),
        _case(_HEAD, "sum", lambda x, w, y, c, reduction: book.integer_loss(
            x @ w + c, y, reduction=reduction), of_tokens, chunk=0, to=("c",), **alone),
    ]  # fmt: skip


def _heads() -> list[Case]:
    """Returns cases of the linear head with classes in shards, and n chunks of s tokens each."""
    args = {"x": array("n s d"), "w": array("m d k")}
    y = {ignore: labels("n s", classes="m*k", ignore=ignore) for ignore in (None, -100)}
    bias, weights = {"bias": array("m k")}, {"class_weights": _WEIGHTS}

    def head(
        options: str, args: Any, given: Any, chunk: int = 1, to: Any = None, **fixed: Any
    ) -> Case:
        def truth(x: Any, w: Any, y: Any, bias: Any, **options: Any) -> Any:
            z = jnp.einsum("...sd,mdk->m...sk", x, w)
            return book.integer_loss(z + per_class(bias, z), y, **options)

        return _case(_HEAD, options, truth, args, given, chunk=chunk, to=to, kinds=GRADIENT,
                     **fixed)  # fmt: skip

    one = {"x": array("s d"), "w": array("m d k"), "y": labels("s", classes="m*k")}  # one chunk
    return [
        *(head(reduction, args | {"y": y[None]}, bias, reduction=reduction)
          for reduction in ("none", "sum", "mean")),
        head("ignore_index, mean", args | {"y": y[-100]}, bias, ignore_index=-100,
             reduction="mean"),
        head("class_weights, mean", one, bias | weights, chunk=0, reduction="mean",
             to=("bias", "class_weights")),
    ]  # fmt: skip


CASES = (*_softmaxes(), *_losses(), *_batches(), *_examples(), *_heads())
UNPROVED = (
    Unproved(_INTEGER, "classes in shards, masked classes", "the prover has no way to assume that "
             "a mask of sharded classes keeps each label's class; for soft labels it needs no such "
             "assumption, and they are proved"),
    Unproved(_INTEGER, "classes in shards, jax.shard_map that tracks varying values", "JAX has no "
             "mesh with a symbolic number of devices; the backward pass that JAX runs without "
             "tracking, which first sums the shards' cotangents, is proved, and "
             "test_sharded_losses.py runs both"),
    *(Unproved(f, f"classes in shards{what}", "the prover does not decide such large terms in "
               "minutes")
      for f, what in (("softmax_focal_loss", ", second order"), ("with_linear_head", ""))),
    Unproved(_HEAD, "num_classes", "the loss of logits is proved with the mask of classes that "
             "this option makes; in the head, where it also changes the labels, "
             "test_head_padding.py compares"),
    Unproved("shard_linear_head", "the call", "what each shard runs is proved, and so are the sums "
             "of the results; the jax.shard_map around them is JAX's, and test_sharded_head.py "
             "compares"),
    Unproved("linear_token_statistics", "classes in shards", "it sums over the shards a value that "
             "is the same in all of them, and for that JAX needs the number of shards; "
             "test_sharded_head.py compares"),
)  # fmt: skip
