"""Lists all theorems about the library, for its functions, options and orders of derivative."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .._prover.spec import array, labels, scalar
from . import head as _head_theorems
from . import shards as _shard_theorems
from . import textbook as book
from .theorem import FIRST, SECOND, VALUE, Case, Theorem, Unproved, case, theorems_of

_Z, _T, _S = array("n k"), array("n k"), scalar()
_E, _C = scalar(unit=True), scalar(nonnegative=True)
_POSITIVE = array("n k", positive=True)
_Y, _IGNORED = labels("n", classes="k"), labels("n", classes="k", ignore=-100)
_EXAMPLES, _CLASSES = array("n", dtype=bool), array("n k", dtype=bool)
_KEEPS = array("n k", dtype=bool, keeps="y")
_W, _WEIGHTS = array("k"), array("k", positive=True)
_V = array("n", positive=True)  # weights of examples; a mean has no derivative where all are 0


def _rows(mask: Any, value: Any) -> Any:
    return jnp.where(mask[:, None], value, 0.0)


def _softmaxes() -> list[Case]:
    z, examples, classes = {"z": _Z}, {"where": _EXAMPLES}, {"where": _CLASSES}
    return [
        case("softmax", "", book.softmax, z),
        case("softmax", "masked examples",
             lambda z, where: _rows(where, book.softmax(z)), z, examples),
        case("softmax", "masked classes",
             lambda z, where: jnp.where(where, book.softmax(z, where), 0.0), z, classes),
        case("log_softmax", "", book.log_softmax, z),
        Case("log_softmax", "masked examples",
             lambda x, z, m: _rows(m, x.log_softmax(z, where=m)), z | examples,
             lambda z, m: _rows(m, book.log_softmax(z))),
        Case("log_softmax", "masked classes",
             lambda x, z, m: jnp.where(m, x.log_softmax(z, where=m), 0.0), z | classes,
             lambda z, m: jnp.where(m, book.log_softmax(z, m), 0.0)),
        case("logsumexp", "", book.logsumexp, z),
        Case("logsumexp", "masked examples",
             lambda x, z, m: jnp.where(m, x.logsumexp(z, where=m), 0.0), z | examples,
             lambda z, m: jnp.where(m, book.logsumexp(z), 0.0)),
        Case("logsumexp", "masked classes",
             lambda x, z, m: jnp.where(jnp.any(m, -1), x.logsumexp(z, where=m), 0.0), z | classes,
             lambda z, m: jnp.where(jnp.any(m, -1), book.logsumexp(z, m), 0.0)),
        case("softmax_entropy", "", book.softmax_entropy, z),
        case("softmax_entropy", "masked examples",
             lambda z, where: jnp.where(where, book.softmax_entropy(z), 0.0), z, examples),
        case("softmax_entropy", "masked classes", book.softmax_entropy, z, classes),
    ]  # fmt: skip


def _first_axes() -> list[Case]:
    """Returns cases with the classes on the first axis."""
    z = {"z": array("k n")}
    return [
        case("softmax", "the first axis", lambda z, axis: book.softmax(z.T).T, z, axis=0,
             kinds=FIRST),
        case(_INTEGER, "the first axis", lambda z, y, axis: book.integer_loss(z.T, y),
             z | {"y": _Y}, axis=0, kinds=FIRST),
    ]  # fmt: skip


_INTEGER = "softmax_cross_entropy_with_integer_labels"


def _integers() -> list[Case]:
    zy, zi = {"z": _Z, "y": _Y}, {"z": _Z, "y": _IGNORED}
    e, c, w = {"label_smoothing": _E}, {"z_loss": _C}, {"class_weights": _WEIGHTS}
    examples, classes, weights = {"where": _EXAMPLES}, {"where": _KEEPS}, {"weights": _V}

    def one(options: str, args: Any, given: Any = None, **fixed: Any) -> Case:
        return case(_INTEGER, options, book.integer_loss, args, given, **fixed)

    return [
        one("", zy),
        one("sum", zy, reduction="sum"),
        one("mean", zy, reduction="mean"),
        one("ignore_index", zi, ignore_index=-100),
        one("ignore_index, mean", zi, ignore_index=-100, reduction="mean"),
        one("masked examples, mean", zy, examples, reduction="mean"),
        one("masked classes", zy, classes),
        one("label_smoothing", zy, e),
        one("z_loss", zy, c),
        one("class_weights", zy, {"class_weights": _W}),
        one("class_weights, mean", zy, w, reduction="mean"),
        one("weights", zy, weights),
        one("weights and masked examples, mean", zy, weights | examples, reduction="mean"),
        one("weights, class_weights, mean", zy, weights | w, reduction="mean"),
        one("label_smoothing, z_loss, class_weights, mean", zy, e | c | w, reduction="mean"),
        one("masked classes and all options, mean", zi, classes | e | c | w, to=("z", "z_loss"),
            ignore_index=-100, reduction="mean"),
        one("masked classes and all options, to the options", zi, classes | e | c | w,
            to=("label_smoothing", "class_weights"), ignore_index=-100),
    ]  # fmt: skip


def _softs() -> list[Case]:
    zt, classes = {"z": _Z, "t": _T}, {"where": _CLASSES}
    e, c, w = {"label_smoothing": _E}, {"z_loss": _C}, {"class_weights": _W}

    def one(options: str, given: Any = None, **fixed: Any) -> Case:
        return case("softmax_cross_entropy", options, book.soft_loss, zt, given, **fixed)

    return [
        one(""),
        one("sum", reduction="sum"),
        one("masked examples, mean", {"where": _EXAMPLES}, reduction="mean"),
        one("label_smoothing", e),
        one("z_loss", c),
        one("class_weights", w),
        one("weights, mean", {"weights": _V}, reduction="mean"),
        one("label_smoothing, z_loss, class_weights, mean", e | c | w, reduction="mean"),
        one("masked classes", classes, to=("z",)),
        one("masked classes and all options, mean", classes | e | c | w, to=("z", "z_loss"),
            reduction="mean"),
        one("masked classes, to the labels", classes, to=("t",)),
        one("masked classes, to the options", classes | e | c | w,
            to=("label_smoothing", "class_weights"), reduction="mean"),
    ]  # fmt: skip


def _binaries() -> list[Case]:
    z, t = {"z": array("n")}, {"t": array("n")}
    unit, hard = {"t": array("n", unit=True)}, {"t": array("n", dtype=bool)}
    e, w = {"label_smoothing": _E}, {"pos_weight": array("n")}
    every = e | w | {"where": _EXAMPLES}
    alpha, gamma = {"alpha": _S}, {"gamma": _C}

    def one(options: str, given: Any = None, **fixed: Any) -> Case:
        return case("sigmoid_binary_cross_entropy", options, book.binary_loss, z | t, given,
                    **fixed)  # fmt: skip

    def focal(options: str, args: Any, given: Any) -> Case:
        return case("sigmoid_focal_loss", options, book.binary_focal, args, given)

    return [
        one("weights, mean", {"weights": _V}, reduction="mean", kinds=FIRST),
        one(""),
        one("label_smoothing", e),
        one("pos_weight", w),
        one("pos_weight, to logits and weights", w, to=("z", "pos_weight"), kinds=SECOND),
        one("all options, mean", every, reduction="mean", kinds=FIRST),
        one("all options, mean, to logits and weights", every, to=("z", "pos_weight"),
            reduction="mean", kinds=SECOND),
        focal("labels in (0, 1)", z | unit, alpha | gamma),
        focal("labels 0 or 1", z | hard, alpha | gamma),
        focal("no alpha, labels in (0, 1)", z | unit, gamma),
        focal("no alpha, labels 0 or 1", z | hard, gamma),
    ]  # fmt: skip


def _divergences() -> list[Case]:
    zw, kl = {"z": _Z, "w": array("n k")}, "softmax_kl_divergence"
    mixed, log_q, t = "softmax_jensen_shannon_divergence", {"log_q": _Z}, {"t": _POSITIVE}
    return [
        case("kl_divergence", "", book.kl_divergence, log_q | t),
        case("kl_divergence", "masked classes", book.kl_divergence, log_q | t, {"where": _CLASSES},
             kinds=FIRST),
        case("kl_divergence_with_log_targets", "", book.kl_divergence_with_log_targets,
             log_q | {"log_t": array("n k")}),
        case("generalized_kl_divergence", "", book.generalized_kl_divergence, log_q | t),
        case(kl, "", book.softmax_kl, zw),
        case(kl, "masked examples, mean", book.softmax_kl, zw, {"where": _EXAMPLES},
             reduction="mean", kinds=FIRST),
        case(kl, "temperature", book.softmax_kl, zw, {"temperature": scalar(positive=True)},
             kinds=FIRST),
        case(mixed, "", book.softmax_jensen_shannon, zw),
        case(mixed, "beta", book.softmax_jensen_shannon, zw, {"beta": _E}, kinds=FIRST),
    ]  # fmt: skip


def _others() -> list[Case]:
    p, q = {"p": _POSITIVE}, {"q": _POSITIVE}
    zy, zt, epsilon = {"z": _Z, "y": _Y}, {"z": _Z, "t": _T}, {"epsilon": _S}

    def focal(options: str, args: Any, given: Any, **fixed: Any) -> Case:
        least = {"k": 2}  # with one class 1 - p_y is 0
        return case("softmax_focal_loss", options, book.focal_loss, args, {"gamma": _C} | given,
                    least=least, **fixed)  # fmt: skip

    return [
        focal("", zy, {}),
        focal("ignore_index, class_weights, mean", {"z": _Z, "y": _IGNORED},
              {"class_weights": _WEIGHTS}, ignore_index=-100, reduction="mean"),
        focal("weights, sum", zy, {"weights": _V}, reduction="sum"),
        case("poly_loss_cross_entropy", "", book.poly_loss, zt, epsilon),
        case("poly_loss_cross_entropy", "masked classes", book.poly_loss, zt,
             epsilon | {"where": _CLASSES}, to=("z", "epsilon")),
        case("entropy", "", book.entropy, p),
        case("cross_entropy", "", book.cross_entropy, p | q),
        case("relative_entropy", "", book.relative_entropy, p | q),
        *_divergences(),
        case("softcap", "", book.softcap, {"z": _Z, "c": scalar(positive=True)}),
    ]  # fmt: skip


def _tokens() -> list[Case]:
    name, zy = "token_statistics", {"z": _Z, "y": _Y}
    return [
        *(case(name, field, truth, zy, output=field)
          for field, truth in book.TOKEN_STATISTICS.items()),
        case(name, "loss, masked tokens", book.integer_loss, zy, {"where": _EXAMPLES},
             output="loss"),
        case(name, "loss, ignore_index", book.integer_loss, {"z": _Z, "y": _IGNORED},
             ignore_index=-100, output="loss", kinds=FIRST),
        case(name, "label_rank", book.label_rank, zy, to=(), output="label_rank", kinds=VALUE),
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
UNPROVED = (
    *(Unproved(f, "masked classes", "that the sums of exponentials over the "
               "classes left in are together positive is not shown; test_edges.py compares")
      for f in ("softmax_kl_divergence", "softmax_jensen_shannon_divergence")),
    Unproved("softmax_kl_divergence", "second order to a temperature", "it is decided, but not in "
             "seconds; test_contract.py compares"),
    Unproved("softmax_jensen_shannon_divergence", "a temperature", "the first engine decides it, "
             "but the second, in the tests, was not seen to end; test_contract.py compares"),
    Unproved("softmax_jensen_shannon_divergence", "second order to beta", "it is decided, but not "
             "in minutes; proved is the second order to both logits at beta = 1/2"),
    Unproved("softmax", "several class axes, here and elsewhere", "the prover does not read a "
             "reshape that merges axes which were moved; test_contract.py compares"),
    *(Unproved(f, "argmax and the likeliest classes", "the prover does not read JAX's argmax and "
               "top_k; test_token_statistics.py compares with their definitions, ties included")
      for f in ("token_statistics", "linear_token_statistics")),
    *_shard_theorems.UNPROVED,
    *_head_theorems.UNPROVED,
)  # fmt: skip
