"""The theorems about classes in m shards of k classes each, for every m: see ``shipped``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from xent_jax import forward_mode
from xent_jax._chunks import Chunks

from .._prover.spec import Spec, array, labels, scalar
from . import textbook
from . import textbook_shards as book
from .in_shards import Axes, in_shards
from .textbook import reduced
from .theorem import Case, Kind, Unproved

_Z, _W, _WEIGHTS = array("m n k"), array("m k"), array("m k", positive=True)
_Y, _IGNORED = labels("n", classes="m*k"), labels("n", classes="m*k", ignore=-100)
_EXAMPLES, _CLASSES = array("n", dtype=bool), array("m n k", dtype=bool)
_E, _C, _S = scalar(unit=True), scalar(nonnegative=True), scalar()
_ALL: tuple[Kind, ...] = ("gradient", "second order", "forward mode")
_FIRST: tuple[Kind, ...] = ("gradient", "forward mode")
_GRADIENT: tuple[Kind, ...] = ("gradient",)
_INTEGER = "softmax_cross_entropy_with_integer_labels"
_SOFT, _HEAD = "softmax_cross_entropy", "linear_softmax_cross_entropy"
_AXES = "axis_name", "batch_axis_name"
_NOTE = "; in every shard, each with its own cotangent"
Local = Callable[..., Any]


def _case(
    function: str,
    options: str,
    call: Local,
    args: Mapping[str, Spec],
    wrt: str,
    truth: Local,
    least: Mapping[str, int] | None = None,
    kinds: tuple[Kind, ...] = _ALL,
    divided: str = "classes in shards",
) -> Case:
    """Returns a case for ``call(loss, *args)`` in each shard; ``truth`` is of the whole arrays.

    The loss names the mesh axes by their letters, as users do.
    """
    over = ["".join(d for d in spec.dims if d in "bm") for spec in args.values()]

    def shipped(library: Any, *values: Any) -> Any:
        def local(axes: Axes, *parts: Any) -> Any:
            def loss(*args: Any, **options: Any) -> Any:
                sized = {k: axes[v] if k in _AXES else v for k, v in options.items()}
                return getattr(library, function)(*args, **sized)

            return call(loss, *parts)

        return in_shards(local, *over, forward=library is forward_mode)(*values)

    def reference(*values: Any) -> Any:
        """Copies the reference for each shard; of an array of classes, it takes the shard."""
        out = truth(*values)
        if function in ("softmax", "log_softmax"):
            return out
        axes, x = max(zip(over, values, strict=True), key=lambda pair: len(pair[0]))
        return jnp.broadcast_to(out, (*x.shape[: len(axes)], *out.shape))

    name = ", ".join(filter(None, (divided, options)))
    return Case(function, name, shipped, args, wrt, reference, least or {}, kinds, _NOTE)


def _named(book_loss: Local, names: str, **fixed: Any) -> tuple[Local, Local]:
    """Returns a loss and its textbook version; options come as pairs of their two names."""
    pairs = [n.split("=") for n in names.split()]
    shipped = {"ignore": "ignore_index"}

    def call(loss: Local, z: Any, y: Any, *values: Any) -> Any:
        given = {ours: v for (ours, _), v in zip(pairs, values, strict=True)}
        given |= {shipped.get(k, k): v for k, v in fixed.items()}
        return loss(z, y, axis_name="m", **given)

    def truth(z: Any, y: Any, *values: Any) -> Any:
        given = {theirs: v for (_, theirs), v in zip(pairs, values, strict=True)}
        return book_loss(z, y, **given, **fixed)

    return call, truth


def _integer(
    options: str,
    args: Mapping[str, Spec],
    wrt: str,
    names: str = "",
    kinds: Any = _FIRST,
    **fixed: Any,
) -> Case:
    call, truth = _named(book.integer_loss, names, **fixed)
    return _case(_INTEGER, options, call, args, wrt, truth, kinds=kinds)


def _soft(
    options: str,
    args: Mapping[str, Spec],
    wrt: str,
    names: str = "",
    kinds: Any = _ALL,
    **fixed: Any,
) -> Case:
    call, truth = _named(book.soft_loss, names, **fixed)
    return _case(_SOFT, options, call, args, wrt, truth, kinds=kinds)


def _plain(loss: Local, *args: Any) -> Any:
    return loss(*args, axis_name="m")


def _masked(loss: Local, z: Any, classes: Any) -> Any:
    return loss(z, where=classes, axis_name="m")


def _softmaxes() -> list[Case]:
    z, masked = {"z": _Z}, {"z": _Z, "classes": _CLASSES}
    return [
        _case("softmax", "", _plain, z, "z", book.softmax),
        _case("softmax", "masked classes", _masked, masked, "z",
              lambda z, m: jnp.where(m, book.softmax(z, m), 0.0), kinds=_FIRST),
        _case("log_softmax", "", _plain, z, "z", lambda z: z - book.logsumexp(z)[:, None]),
        _case("logsumexp", "", _plain, z, "z", book.logsumexp),
        _case("softmax_entropy", "", _plain, z, "z", book.softmax_entropy),
    ]  # fmt: skip


def _losses() -> list[Case]:
    zy, zi, zt = {"z": _Z, "y": _Y}, {"z": _Z, "y": _IGNORED}, {"z": _Z, "t": _Z}
    e, c, w = "label_smoothing=smoothing", "z_loss=c", "class_weights=w"
    every, given = f"{e} {c} {w}", {"e": _E, "c": _C, "w": _WEIGHTS}
    return [
        _integer("", zy, "z", kinds=_ALL),
        _integer("mean", zy, "z", reduction="mean"),
        _integer("ignore_index, mean", zi, "z", kinds=_ALL, ignore=-100, reduction="mean"),
        _integer("masked examples, mean", zy | {"left": _EXAMPLES}, "z", "where=examples",
                 reduction="mean"),
        _integer("label_smoothing", zy | {"e": _E}, "z e", e),
        _integer("z_loss", zy | {"c": _C}, "z c", c),
        _integer("class_weights", zy | {"w": _W}, "z w", w),
        _integer("ignore_index, all options, mean", zi | given, "z e c w", every, ignore=-100,
                 reduction="mean"),
        _integer("all options, to the logits", zy | given, "z", every, ("second order",)),
        _soft("", zt, "z t"),
        _soft("all options, mean", zt | given, "z t e c w", every, ("gradient",),
              reduction="mean"),
        _soft("all options, to the logits", zt | given, "z", every, ("second order",)),
        _soft("masked classes", zt | {"classes": _CLASSES}, "z", "where=classes"),
        _case("poly_loss_cross_entropy", "", _plain, zt | {"epsilon": _S}, "z t epsilon",
              book.poly_loss, kinds=_FIRST),
        _case("poly_loss_cross_entropy", "to the logits", _plain, zt | {"epsilon": _S}, "z",
              book.poly_loss, kinds=("second order",)),
        _case("softmax_kl_divergence", "", _plain, {"z": _Z, "w": _Z}, "z w", book.softmax_kl,
              kinds=_FIRST),
        _case("softmax_jensen_shannon_divergence", "", _plain, {"z": _Z, "w": _Z}, "z w",
              book.softmax_jensen_shannon, kinds=_FIRST),
        _case("softmax_focal_loss", "",
              lambda loss, z, y, gamma: loss(z, y, gamma=gamma, axis_name="m"),
              zy | {"gamma": _C}, "z gamma", book.focal_loss, {"k": 2}, _FIRST),
    ]  # fmt: skip


def _batches() -> list[Case]:
    """Cases with the examples sharded over b shards of n each."""
    args = {"z": array("b m n k"), "y": labels("b n", classes="m*k", ignore=-100)}

    def case(reduction: Any) -> Case:
        def call(loss: Local, z: Any, y: Any) -> Any:
            return loss(z, y, ignore_index=-100, reduction=reduction, axis_name="m",
                        batch_axis_name="b")  # fmt: skip

        def truth(z: Any, y: Any) -> Any:
            losses = jax.vmap(partial(book.integer_loss, ignore=-100))(z, y)
            return reduced(losses, reduction, y != -100)

        return _case(_INTEGER, f"examples too, ignore_index, {reduction}", call, args, "z",
                     truth, kinds=_FIRST)  # fmt: skip

    return [case("sum"), case("mean")]


def _examples() -> list[Case]:
    """Cases with the examples alone sharded, over b shards of n each."""
    z, kinds = array("b n k"), _GRADIENT
    y, two = labels("b n", classes="k"), {"z": z, "w": z}

    def case(function: str, args: Mapping[str, Spec], wrt: str, truth: Local, **least: int) -> Case:
        def call(loss: Local, *args: Any) -> Any:
            return loss(*args, reduction="sum", batch_axis_name="b")

        def of_all(*args: Any) -> Any:
            return jnp.sum(jax.vmap(truth)(*args))

        return _case(function, "sum", call, args, wrt, of_all, least, kinds, "examples in shards")

    def head(loss: Local, x: Any, w: Any, y: Any, c: Any) -> Any:
        chunks = Chunks(x.shape[0], in_place=True)
        return loss(x, w, y, c, reduction="sum", batch_axis_name="b", max_logits_bytes=chunks)

    of_tokens = {"x": array("b n d"), "w": array("d k"), "y": y, "c": array("k")}
    return [
        case(_SOFT, {"z": z, "t": z}, "z t", textbook.soft_loss),
        case("softmax_focal_loss", {"z": z, "y": y}, "z",
             lambda z, y: textbook.focal_loss(z, y, 2.0), k=2),
        case("softmax_kl_divergence", two, "z w", textbook.softmax_kl),
        case("softmax_jensen_shannon_divergence", two, "z w", textbook.softmax_jensen_shannon),
        _case(_HEAD, "sum", head, of_tokens, "c",
              lambda x, w, y, c: jnp.sum(textbook.integer_loss(x @ w + c, y)), None, kinds,
              "examples in shards"),
    ]  # fmt: skip


def _heads() -> list[Case]:
    """Cases of the linear head with n chunks of s tokens."""
    args = {
        "x": array("n s d"), "w": array("m d k"), "y": labels("n s", classes="m*k"),
        "b": array("m k"),
    }  # fmt: skip

    def case(reduction: Any, **ignored: Any) -> Case:
        def call(loss: Local, x: Any, w: Any, y: Any, b: Any) -> Any:
            options: dict[str, Any] = {"ignore_index": -100} if ignored else {}
            options["max_logits_bytes"] = Chunks(x.shape[1], in_place=True)
            return loss(x, w, y, bias=b, reduction=reduction, axis_name="m", **options)

        def truth(x: Any, w: Any, y: Any, b: Any) -> Any:
            z = jnp.einsum("nsd,mdk->mnsk", x, w) + b[:, None, None]
            return book.integer_loss(z, y, reduction=reduction, **ignored)

        y = labels("n s", classes="m*k", **ignored)
        name = f"ignore_index, {reduction}" if ignored else reduction
        return _case(_HEAD, name, call, args | {"y": y}, "x w b", truth, kinds=("gradient",))

    def weighed(loss: Local, x: Any, w: Any, y: Any, b: Any, v: Any) -> Any:
        return loss(x, w, y, bias=b, class_weights=v, axis_name="m",
                    max_logits_bytes=Chunks(x.shape[0], in_place=True))  # fmt: skip

    def of_weighed(x: Any, w: Any, y: Any, b: Any, v: Any) -> Any:
        z = jnp.einsum("sd,mdk->msk", x, w) + b[:, None]
        return book.integer_loss(z, y, w=v, reduction="mean")

    one = {"x": array("s d"), "y": labels("s", classes="m*k"), "v": _WEIGHTS}  # one chunk
    return [
        case("none"), case("sum"), case("mean"), case("mean", ignore=-100),
        _case(_HEAD, "class_weights, mean", weighed, args | one, "b v",
              of_weighed, kinds=_GRADIENT),
    ]  # fmt: skip


CASES = (*_softmaxes(), *_losses(), *_batches(), *_examples(), *_heads())
_MANY = (
    "more than four sums are nested, and the prover does not bring so many into one order; the "
    "second order to the logits is proved"
)
UNPROVED = (
    Unproved(_INTEGER, "classes in shards, masked classes", "the prover has no way to assume that "
             "a mask of sharded classes keeps each label's class; for soft labels it needs no such "
             "assumption, and they are proved"),
    Unproved(_INTEGER, "classes in shards, jax.shard_map that tracks varying values", "JAX has no "
             "mesh with a symbolic number of devices; the backward pass that JAX runs without "
             "tracking, which first sums the shards' cotangents, is proved, and "
             "test_sharded_losses.py runs both"),
    *(Unproved(f, "classes in shards, second order to the options", _MANY)
      for f in (_INTEGER, _SOFT, "poly_loss_cross_entropy")),
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
