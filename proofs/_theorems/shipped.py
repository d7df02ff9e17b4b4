"""All theorems about the library: one for each function, option and order of derivative."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp

from .._prover.spec import Spec, array, labels, scalar
from . import head as _head_theorems
from . import shards as _shard_theorems
from . import textbook as book
from .theorem import Case, Kind, Theorem, Unproved, theorems_of

_Z, _T, _S = array("n k"), array("n k"), scalar()
_E, _C = scalar(unit=True), scalar(nonnegative=True)
_POSITIVE = array("n k", positive=True)
_Y, _IGNORED = labels("n", classes="k"), labels("n", classes="k", ignore=-100)
_EXAMPLES, _CLASSES = array("n", dtype=bool), array("n k", dtype=bool)
_KEEPS = array("n k", dtype=bool, keeps="y")
_W, _WEIGHTS = array("k"), array("k", positive=True)
_V = array("n", positive=True)  # Weights of examples. A mean has no derivative where all are 0.


def _rows(mask: Any, value: Any) -> Any:
    return jnp.where(mask[:, None], value, 0.0)


def _softmaxes() -> list[Case]:
    zm, zc = {"z": _Z, "m": _EXAMPLES}, {"z": _Z, "m": _CLASSES}
    return [
        Case("softmax", "", lambda x, z: x.softmax(z), {"z": _Z}, "z", book.softmax),
        Case(
            "softmax", "masked examples", lambda x, z, m: x.softmax(z, where=m), zm, "z",
            lambda z, m: _rows(m, book.softmax(z)),
        ),
        Case(
            "softmax", "masked classes", lambda x, z, m: x.softmax(z, where=m), zc, "z",
            lambda z, m: jnp.where(m, book.softmax(z, m), 0.0),
        ),
        Case("log_softmax", "", lambda x, z: x.log_softmax(z), {"z": _Z}, "z", book.log_softmax),
        Case(
            "log_softmax", "masked examples",
            lambda x, z, m: _rows(m, x.log_softmax(z, where=m)), zm, "z",
            lambda z, m: _rows(m, book.log_softmax(z)),
        ),
        Case(
            "log_softmax", "masked classes",
            lambda x, z, m: jnp.where(m, x.log_softmax(z, where=m), 0.0), zc, "z",
            lambda z, m: jnp.where(m, z - book.logsumexp(z, m)[..., None], 0.0),
        ),
        Case("logsumexp", "", lambda x, z: x.logsumexp(z), {"z": _Z}, "z", book.logsumexp),
        Case(
            "logsumexp", "masked examples",
            lambda x, z, m: jnp.where(m, x.logsumexp(z, where=m), 0.0), zm, "z",
            lambda z, m: jnp.where(m, book.logsumexp(z), 0.0),
        ),
        Case(
            "logsumexp", "masked classes",
            lambda x, z, m: jnp.where(jnp.any(m, -1), x.logsumexp(z, where=m), 0.0), zc, "z",
            lambda z, m: jnp.where(jnp.any(m, -1), book.logsumexp(z, m), 0.0),
        ),
        Case("softmax_entropy", "", lambda x, z: x.softmax_entropy(z), {"z": _Z}, "z",
             book.softmax_entropy),
        Case("softmax_entropy", "masked examples", lambda x, z, m: x.softmax_entropy(z, where=m),
             zm, "z", lambda z, m: jnp.where(m, book.softmax_entropy(z), 0.0)),
        Case("softmax_entropy", "masked classes", lambda x, z, m: x.softmax_entropy(z, where=m),
             zc, "z", book.softmax_entropy),
    ]  # fmt: skip


def _first_axes() -> list[Case]:
    """Cases with the classes on the first axis."""
    z = array("k n")
    kinds: tuple[Kind, ...] = ("gradient", "forward mode")

    def loss(x: Any, z: Any, y: Any) -> Any:
        return getattr(x, _INTEGER)(z, y, axis=0)

    return [
        Case("softmax", "the first axis", lambda x, z: x.softmax(z, 0), {"z": z}, "z",
             lambda z: book.softmax(z.T).T, kinds=kinds),
        Case(_INTEGER, "the first axis", loss, {"z": z, "y": _Y}, "z",
             lambda z, y: book.integer_loss(z.T, y), kinds=kinds),
    ]  # fmt: skip


_INTEGER = "softmax_cross_entropy_with_integer_labels"


def _integer(options: str, args: Mapping[str, Spec], wrt: str, names: str, **fixed: Any) -> Case:
    """Returns a case; ``names`` pairs options of the library with those of the reference."""
    pairs = [n.split("=") for n in names.split()]
    shipped = {"ignore": "ignore_index"}

    def call(x: Any, z: Any, y: Any, *values: Any) -> Any:
        given = {ours: v for (ours, _), v in zip(pairs, values, strict=True)}
        given |= {shipped.get(k, k): v for k, v in fixed.items()}
        return getattr(x, _INTEGER)(z, y, **given)

    def reference(z: Any, y: Any, *values: Any) -> Any:
        given = {theirs: v for (_, theirs), v in zip(pairs, values, strict=True)}
        return book.integer_loss(z, y, **given, **fixed)

    return Case(_INTEGER, options, call, args, wrt, reference)


def _integers() -> list[Case]:
    zy, zi = {"z": _Z, "y": _Y}, {"z": _Z, "y": _IGNORED}
    e, c, w = "label_smoothing=smoothing", "z_loss=c", "class_weights=w"
    full = zi | {"m": _KEEPS, "e": _E, "c": _C, "w": _WEIGHTS}
    everything = f"where=classes {e} {c} {w}"
    return [
        _integer("", zy, "z", ""),
        _integer("sum", zy, "z", "", reduction="sum"),
        _integer("mean", zy, "z", "", reduction="mean"),
        _integer("ignore_index", zi, "z", "", ignore=-100),
        _integer("ignore_index, mean", zi, "z", "", ignore=-100, reduction="mean"),
        _integer("masked examples, mean", zy | {"m": _EXAMPLES}, "z", "where=examples",
                 reduction="mean"),
        _integer("masked classes", zy | {"m": _KEEPS}, "z", "where=classes"),
        _integer("label_smoothing", zy | {"e": _E}, "z e", e),
        _integer("z_loss", zy | {"c": _C}, "z c", c),
        _integer("class_weights", zy | {"w": _W}, "z w", w),
        _integer("class_weights, mean", zy | {"w": _WEIGHTS}, "z w", w, reduction="mean"),
        _integer("weights", zy | {"v": _V}, "z v", "weights=v"),
        _integer("weights and masked examples, mean", zy | {"v": _V, "m": _EXAMPLES}, "z v",
                 "weights=v where=examples", reduction="mean"),
        _integer("weights, class_weights, mean", zy | {"v": _V, "w": _WEIGHTS}, "z v w",
                 f"weights=v {w}", reduction="mean"),
        _integer("label_smoothing, z_loss, class_weights, mean",
                 zy | {"e": _E, "c": _C, "w": _WEIGHTS}, "z e c w", f"{e} {c} {w}",
                 reduction="mean"),
        _integer("masked classes and all options, mean", full, "z c", everything,
                 ignore=-100, reduction="mean"),
        _integer("masked classes and all options, to the options",
                 full, "e w", everything, ignore=-100),
    ]  # fmt: skip


def _soft(options: str, args: Mapping[str, Spec], wrt: str, names: str, **fixed: Any) -> Case:
    pairs = [n.split("=") for n in names.split()]

    def call(x: Any, z: Any, t: Any, *values: Any) -> Any:
        given = {ours: v for (ours, _), v in zip(pairs, values, strict=True)}
        return x.softmax_cross_entropy(z, t, **given, **fixed)

    def reference(z: Any, t: Any, *values: Any) -> Any:
        given = {theirs: v for (_, theirs), v in zip(pairs, values, strict=True)}
        return book.soft_loss(z, t, **given, **fixed)

    return Case("softmax_cross_entropy", options, call, args, wrt, reference)


def _softs() -> list[Case]:
    zt = {"z": _Z, "t": _T}
    e, c, w = "label_smoothing=smoothing", "z_loss=c", "class_weights=w"
    full = zt | {"m": _CLASSES, "e": _E, "c": _C, "w": _W}
    everything = f"where=classes {e} {c} {w}"
    return [
        _soft("", zt, "z t", ""),
        _soft("sum", zt, "z t", "", reduction="sum"),
        _soft("masked examples, mean", zt | {"m": _EXAMPLES}, "z t", "where=examples",
              reduction="mean"),
        _soft("label_smoothing", zt | {"e": _E}, "z t e", e),
        _soft("z_loss", zt | {"c": _C}, "z t c", c),
        _soft("class_weights", zt | {"w": _W}, "z t w", w),
        _soft("weights, mean", zt | {"v": _V}, "z t v", "weights=v", reduction="mean"),
        _soft("label_smoothing, z_loss, class_weights, mean",
              zt | {"e": _E, "c": _C, "w": _W}, "z t e c w", f"{e} {c} {w}", reduction="mean"),
        _soft("masked classes", zt | {"m": _CLASSES}, "z", "where=classes"),
        _soft("masked classes and all options, mean", full, "z c", everything, reduction="mean"),
        _soft("masked classes, to the labels", zt | {"m": _CLASSES}, "t", "where=classes"),
        _soft("masked classes, to the options", full, "e w", everything, reduction="mean"),
    ]  # fmt: skip


def _binaries() -> list[Case]:
    z, t, e = array("n"), array("n"), _E
    w, m, unit, hard = (
        array("n"),
        array("n", dtype=bool),
        array("n", unit=True),
        array("n", dtype=bool),
    )
    binary, focal = "sigmoid_binary_cross_entropy", "sigmoid_focal_loss"

    def call(x: Any, z: Any, t: Any, *options: Any, **fixed: Any) -> Any:
        names = ("label_smoothing", "pos_weight", "where")
        given = dict(zip(names, options, strict=False))
        return x.sigmoid_binary_cross_entropy(z, t, **given, **fixed)

    def weighted(x: Any, z: Any, t: Any, w: Any) -> Any:
        return x.sigmoid_binary_cross_entropy(z, t, pos_weight=w)

    def focal_call(x: Any, z: Any, t: Any, a: Any, gamma: Any) -> Any:
        return x.sigmoid_focal_loss(z, t, a, gamma)

    def focal_reference(z: Any, t: Any, a: Any, gamma: Any) -> Any:
        return book.binary_focal(z, t * jnp.ones_like(z), gamma, a)

    def unbalanced(x: Any, z: Any, t: Any, gamma: Any) -> Any:
        return x.sigmoid_focal_loss(z, t, gamma=gamma)

    def unbalanced_reference(z: Any, t: Any, gamma: Any) -> Any:
        return focal_reference(z, t, None, gamma)

    def every(z: Any, t: Any, e: Any, w: Any, m: Any) -> Any:
        return book.binary_loss(z, t, smoothing=e, w=w, where=m, reduction="mean")

    def by_element(x: Any, z: Any, t: Any, v: Any) -> Any:
        return x.sigmoid_binary_cross_entropy(z, t, weights=v, reduction="mean")

    full = {"z": z, "t": t, "e": e, "w": w, "m": m}
    return [
        Case(binary, "weights, mean", by_element, {"z": z, "t": t, "v": _V}, "z t v",
              lambda z, t, v: book.binary_loss(z, t, v=v, reduction="mean"),
              kinds=("gradient", "forward mode")),
        Case(binary, "", call, {"z": z, "t": t}, "z t", book.binary_loss),
        Case(binary, "label_smoothing", call, {"z": z, "t": t, "e": e}, "z t e",
              lambda z, t, e: book.binary_loss(z, t, smoothing=e)),
        Case(binary, "pos_weight", weighted, {"z": z, "t": t, "w": w}, "z t w",
              lambda z, t, w: book.binary_loss(z, t, w=w)),
        Case(binary, "pos_weight, to logits and weights", weighted, {"z": z, "t": t, "w": w},
              "z w", lambda z, t, w: book.binary_loss(z, t, w=w), kinds=("second order",)),
        Case(binary, "all options, mean", partial(call, reduction="mean"), full, "z t e w", every,
              kinds=("gradient", "forward mode")),
        Case(binary, "all options, mean, to logits and weights", partial(call, reduction="mean"),
              full, "z w", every, kinds=("second order",)),
        Case(focal, "labels in (0, 1)", focal_call,
              {"z": z, "t": unit, "a": _S, "gamma": _C}, "z t a gamma", focal_reference),
        Case(focal, "labels 0 or 1", focal_call,
              {"z": z, "t": hard, "a": _S, "gamma": _C}, "z a gamma", focal_reference),
        Case(focal, "no alpha, labels in (0, 1)", unbalanced,
              {"z": z, "t": unit, "gamma": _C}, "z t gamma", unbalanced_reference),
        Case(focal, "no alpha, labels 0 or 1", unbalanced,
              {"z": z, "t": hard, "gamma": _C}, "z gamma", unbalanced_reference),
    ]  # fmt: skip


def _divergences() -> list[Case]:
    zw, name = {"z": _Z, "w": array("n k")}, "softmax_kl_divergence"
    mixed = "softmax_jensen_shannon_divergence"

    def masked(x: Any, z: Any, w: Any, m: Any) -> Any:
        return x.softmax_kl_divergence(z, w, where=m, reduction="mean")

    def tempered(x: Any, z: Any, w: Any, r: Any) -> Any:
        return x.softmax_kl_divergence(z, w, temperature=r)

    return [
        Case(name, "", lambda x, z, w: x.softmax_kl_divergence(z, w), zw, "z w", book.softmax_kl),
        Case(name, "masked examples, mean", masked, zw | {"m": _EXAMPLES}, "z w",
              lambda z, w, m: book.softmax_kl(z, w, examples=m, reduction="mean"),
              kinds=("gradient", "forward mode")),
        Case(name, "temperature", tempered, zw | {"r": scalar(positive=True)}, "z w r",
             lambda z, w, r: book.softmax_kl(z / r, w / r), kinds=("gradient", "forward mode")),
        Case(mixed, "", lambda x, z, w: x.softmax_jensen_shannon_divergence(z, w), zw, "z w",
              book.softmax_jensen_shannon),
        Case(mixed, "beta", lambda x, z, w, b: x.softmax_jensen_shannon_divergence(z, w, beta=b),
              zw | {"b": _E}, "z w b", book.softmax_jensen_shannon,
              kinds=("gradient", "forward mode")),
    ]  # fmt: skip


def _others() -> list[Case]:
    two = {"k": 2}  # with one class 1 - p_y is 0
    focal = {"z": _Z, "y": _Y, "gamma": _C}
    weighted = {"z": _Z, "y": _IGNORED, "gamma": _C, "w": _WEIGHTS}
    poly = {"z": _Z, "t": _T, "epsilon": _S}
    p, q = _POSITIVE, array("n k", positive=True)
    c = scalar(positive=True)
    return [
        Case("softmax_focal_loss", "",
              lambda x, z, y, gamma: x.softmax_focal_loss(z, y, gamma=gamma), focal, "z gamma",
              book.focal_loss, two),
        Case("softmax_focal_loss", "ignore_index, class_weights, mean",
              lambda x, z, y, gamma, w: x.softmax_focal_loss(
                  z, y, gamma=gamma, class_weights=w, ignore_index=-100, reduction="mean"),
              weighted, "z gamma w",
              lambda z, y, gamma, w: book.focal_loss(
                  z, y, gamma, w=w, ignore=-100, reduction="mean"), two),
        Case("softmax_focal_loss", "weights, sum",
              lambda x, z, y, gamma, v: x.softmax_focal_loss(
                  z, y, gamma=gamma, weights=v, reduction="sum"),
              focal | {"v": _V}, "z gamma v",
              lambda z, y, gamma, v: book.focal_loss(z, y, gamma, v=v, reduction="sum"), two),
        Case("poly_loss_cross_entropy", "",
              lambda x, z, t, e: x.poly_loss_cross_entropy(z, t, e), poly, "z t epsilon",
              book.poly_loss),
        Case("poly_loss_cross_entropy", "masked classes",
              lambda x, z, t, e, m: x.poly_loss_cross_entropy(z, t, e, where=m),
              poly | {"m": _CLASSES}, "z epsilon", book.poly_loss),
        Case("entropy", "", lambda x, p: x.entropy(p), {"p": p}, "p", book.entropy),
        Case("cross_entropy", "", lambda x, p, q: x.cross_entropy(p, q), {"p": p, "q": q},
              "p q", book.cross_entropy),
        Case("relative_entropy", "", lambda x, p, q: x.relative_entropy(p, q),
              {"p": p, "q": q}, "p q", book.relative_entropy),
        Case("kl_divergence", "", lambda x, q, t: x.kl_divergence(q, t),
              {"log_q": _Z, "t": p}, "log_q t", book.kl_divergence),
        Case("kl_divergence", "masked classes",
              lambda x, q, t, m: x.kl_divergence(q, t, where=m),
              {"log_q": _Z, "t": p, "m": _CLASSES}, "log_q t",
              lambda q, t, m: jnp.sum(jnp.where(m, t * (jnp.log(t) - q), 0.0), -1),
              kinds=("gradient", "forward mode")),
        Case("kl_divergence_with_log_targets", "",
              lambda x, q, u: x.kl_divergence_with_log_targets(q, u),
              {"log_q": _Z, "log_t": array("n k")}, "log_q log_t",
              book.kl_divergence_with_log_targets),
        Case("generalized_kl_divergence", "", lambda x, q, t: x.generalized_kl_divergence(q, t),
              {"log_q": _Z, "t": p}, "log_q t", book.generalized_kl_divergence),
        *_divergences(),
        Case("softcap", "", lambda x, z, c: x.softcap(z, c), {"z": _Z, "c": c}, "z c",
              book.softcap),
    ]  # fmt: skip


def _tokens() -> list[Case]:
    def one(field: str, truth: Any) -> Case:
        def call(library: Any, z: Any, y: Any) -> Any:
            return getattr(library.token_statistics(z, y), field)

        return Case("token_statistics", field, call, {"z": _Z, "y": _Y}, "z", truth)

    return [
        one("loss", book.integer_loss),
        one("logsumexp", lambda z, _: book.logsumexp(z)),
        one("entropy", lambda z, _: book.softmax_entropy(z)),
        Case("token_statistics", "loss, masked tokens",
             lambda x, z, y, m: x.token_statistics(z, y, m).loss,
             {"z": _Z, "y": _Y, "m": _EXAMPLES}, "z",
             lambda z, y, m: book.integer_loss(z, y, examples=m)),
        Case("token_statistics", "loss, ignore_index",
             lambda x, z, y: x.token_statistics(z, y, ignore_index=-100).loss,
             {"z": _Z, "y": _IGNORED}, "z", lambda z, y: book.integer_loss(z, y, ignore=-100),
             kinds=("gradient", "forward mode")),
        Case("token_statistics", "label_rank",
             lambda x, z, y: x.token_statistics(z, y).label_rank, {"z": _Z, "y": _Y}, "",
             book.label_rank, kinds=("value",)),
    ]  # fmt: skip


_LOGITS = (
    *_softmaxes(),
    *_first_axes(),
    *_integers(),
    *_softs(),
    *_binaries(),
    *_others(),
    *_tokens(),
)
CASES = (*_LOGITS, *_shard_theorems.CASES, *_head_theorems.CASES)
THEOREMS: tuple[Theorem, ...] = tuple(t for case in CASES for t in theorems_of(case))
_DIVERGENCES = (
    *(Unproved(f, "masked classes", "that the sums of exponentials over the "
               "classes left in are together positive is not shown; test_edges.py compares")
      for f in ("softmax_kl_divergence", "softmax_jensen_shannon_divergence")),
    Unproved("softmax_kl_divergence", "second order to a temperature", "it is decided, but not in "
             "seconds; test_contract.py compares"),
    Unproved("softmax_jensen_shannon_divergence", "a temperature", "the first engine decides it, "
             "but the second, in the tests, was not seen to end; test_contract.py compares"),
    Unproved("softmax_jensen_shannon_divergence", "second order to beta", "it is decided, but not "
             "in minutes; proved is the second order to both logits at beta = 1/2"),
)  # fmt: skip
_OTHERS = (
    Unproved("softmax", "several class axes, here and elsewhere", "the prover does not read a "
             "reshape that merges axes which were moved; test_contract.py compares"),
    *(Unproved(f, "argmax and the likeliest classes", "the prover does not read JAX's argmax and "
               f"top_k; {test}.py compares them with their definitions, ties included")
      for f, test in (("token_statistics", "test_token_statistics"),
                      ("linear_token_statistics", "test_head_statistics"))),
)  # fmt: skip
UNPROVED = (*_DIVERGENCES, *_OTHERS, *_shard_theorems.UNPROVED, *_head_theorems.UNPROVED)
