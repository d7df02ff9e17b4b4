"""Softmax cross-entropy, soft and integer: one formula and its specialisations.

L = T lse + c lse² − ⟨t, z⟩ with T = Σ t, so ∂L/∂z = (T + 2 c lse) p − t.
"""

from __future__ import annotations

import sympy as sp

from .decide import Assumption
from .derivation import Derivation, Step
from .notation import (
    LABEL,
    MASS,
    SOFTMAX,
    SUM_EXP,
    A,
    I,
    J,
    T,
    Y,
    c,
    dot,
    eps,
    lse,
    p,
    t,
    v,
    w,
    z,
)
from .terms import K, Partial, delta, family, total

_SOFT, _HARD = "softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels"
_GENERAL = (*SOFTMAX, MASS)
_SOURCE = "Bridle (1990); the seed; z-loss: Chowdhery et al. (2022), PaLM"
_s = family("s")  # soft labels, before smoothing and weights

_textbook = total(lambda j: -t(j) * sp.log(p(j))) + c * lse**2
_closed = T * lse + c * lse**2 - dot(t, z)
_factor = T + 2 * c * lse


def _gradient_steps(loss: sp.Expr, why: str) -> tuple[Step, ...]:
    return (
        Step("definition", Partial(loss, z(I)), "definition"),
        Step("one target", Partial(_textbook, z(I)), why),
        Step("one formula", Partial(_closed, z(I)), "log p_j = z_j − lse"),
        Step("termwise", T * p(I) + 2 * c * lse * p(I) - t(I), "∂lse/∂z_i = p_i (logsumexp)"),
        Step("closed form", _factor * p(I) - t(I), "algebra"),
    )


def _soft() -> Derivation:
    loss = total(lambda j: w(j) * ((1 - eps) * _s(j) + eps / K) * -sp.log(p(j))) + c * lse**2
    return Derivation(
        _SOFT,
        "Soft labels s with class weights w, smoothing ε and z-loss c",
        "∂L/∂z_i = (T + 2 c lse) p_i − t_i",
        _gradient_steps(loss, "t_j = w_j ((1 − ε) s_j + ε/k)"),
        (*_GENERAL, (t(A), w(A) * ((1 - eps) * _s(A) + eps / K))),
        source=_SOURCE,
        about="Nothing is assumed of the labels; the factor T is 1 only if they sum to 1.",
    )


def _hard() -> Derivation:
    loss = (
        (1 - eps) * w(Y) * -sp.log(p(Y))
        + eps / K * total(lambda j: -w(j) * sp.log(p(j)))
        + c * lse**2
    )
    return Derivation(
        _HARD,
        "Integer labels with class weights w, smoothing ε and z-loss c",
        "∂L/∂z_i = (T + 2 c lse) p_i − t_i",
        _gradient_steps(loss, "t_j = (1 − ε) w_y δ_yj + w_j ε/k"),
        (*_GENERAL, (t(A), (1 - eps) * w(Y) * delta(Y, A) + eps / K * w(A))),
        (LABEL,),
        source=f"{_SOURCE}; smoothing: Szegedy et al. (2016)",
    )


def _general() -> Derivation:
    return Derivation(
        f"{_SOFT}.one_formula",
        "Every variant is one formula",
        "L = T lse + c lse² − ⟨t, z⟩",
        (
            Step("definition", _textbook, "definition"),
            Step("logarithm of the softmax",
                 total(lambda j: t(j) * (lse - z(j))) + c * lse**2, "log p_j = z_j − lse"),
            Step("one formula", _closed, "sums are linear"),
        ),
        _GENERAL,
        source=_SOURCE,
    )  # fmt: skip


def _special_cases() -> tuple[Derivation, ...]:
    one = Assumption("Σ_j t_j = 1", equation=(total(t), sp.Integer(1)))
    start = Step("general", _factor * p(I) - t(I), "softmax_cross_entropy")
    uniform = (t(A), (1 - eps) * delta(Y, A) + eps / K)
    z_loss = (c, sp.Integer(0))
    return (
        Derivation(
            f"{_SOFT}.unit_mass",
            "Soft labels that sum to 1, no z-loss: the seed's form",
            "∂L/∂z_i = p_i − t_i",
            (start, Step("seed", p(I) - t(I), "T = 1, c = 0", "last line of the last block")),
            (*_GENERAL, z_loss),
            (one,),
        ),
        Derivation(
            f"{_HARD}.plain",
            "Integer labels without options",
            "∂L/∂z_i = p_i − δ_yi",
            (start, Step("one-hot", p(I) - delta(Y, I), "t_j = δ_yj, T = 1, c = 0")),
            (*_GENERAL, z_loss, (t(A), delta(Y, A))),
            (LABEL,),
        ),
        Derivation(
            f"{_HARD}.smoothed",
            "Integer labels with smoothing",
            "∂L/∂z_i = p_i − (1 − ε) δ_yi − ε/k",
            (start, Step("smoothed", p(I) - (1 - eps) * delta(Y, I) - eps / K, "T = 1, c = 0")),
            (*_GENERAL, z_loss, uniform),
            (LABEL,),
        ),
        Derivation(
            f"{_HARD}.weighted",
            "Integer labels with class weights",
            "∂L/∂z_i = w_y (p_i − δ_yi)",
            (start, Step("weighted", w(Y) * (p(I) - delta(Y, I)), "t_j = w_y δ_yj, c = 0")),
            (*_GENERAL, z_loss, (t(A), w(Y) * delta(Y, A))),
            (LABEL,),
        ),
        Derivation(
            f"{_HARD}.z_loss",
            "Integer labels with z-loss",
            "∂L/∂z_i = (1 + 2 c lse) p_i − δ_yi",
            (start, Step("with z-loss", (1 + 2 * c * lse) * p(I) - delta(Y, I), "t_j = δ_yj")),
            (*_GENERAL, (t(A), delta(Y, A))),
            (LABEL,),
        ),
    )


def _by_options() -> tuple[Derivation, ...]:
    surprise = lse - z(I)
    smoothed = total(lambda j: ((1 - eps) * _s(j) + eps / K) * -sp.log(p(j)))
    weighted = total(lambda j: -w(j) * _s(j) * sp.log(p(j)))
    return (
        Derivation(
            f"{_SOFT}.labels",
            "The gradient to the labels",
            "∂L/∂t_i = lse − z_i",
            (
                Step("definition", Partial(_textbook, t(I)), "definition"),
                Step("one term", -sp.log(p(I)), "term i of a sum with δ_ij"),
                Step("closed form", surprise, "log p_i = z_i − lse"),
            ),
            SOFTMAX,
        ),
        Derivation(
            f"{_SOFT}.class_weights",
            "The gradient to the class weights",
            "∂L/∂w_i = s_i (lse − z_i)",
            (
                Step("definition", Partial(weighted, w(I)), "definition"),
                Step("one term", -_s(I) * sp.log(p(I)), "term i of a sum with δ_ij"),
                Step("closed form", _s(I) * surprise, "log p_i = z_i − lse"),
            ),
            SOFTMAX,
        ),
        Derivation(
            f"{_SOFT}.label_smoothing",
            "The gradient to the smoothing",
            "∂L/∂ε = Σ_j (1/k − s_j) (lse − z_j)",
            (
                Step("definition", Partial(smoothed, eps), "definition"),
                Step("termwise", total(lambda j: (1 / K - _s(j)) * -sp.log(p(j))), "linear in ε"),
                Step("closed form", total(lambda j: (1 / K - _s(j)) * (lse - z(j))),
                     "log p_j = z_j − lse"),
            ),
            SOFTMAX,
        ),
        Derivation(
            f"{_SOFT}.z_loss",
            "The gradient to the coefficient of the z-loss",
            "∂L/∂c = lse²",
            (
                Step("definition", Partial(_textbook, c), "definition"),
                Step("closed form", lse**2, "linear in c"),
            ),
            SOFTMAX,
        ),
    )  # fmt: skip


def _second_order() -> tuple[Derivation, ...]:
    h = delta(I, J) * p(I) - p(I) * p(J)
    product = _factor * p(I) * (v(I) - dot(p, v)) + 2 * c * dot(p, v) * p(I)
    return (
        Derivation(
            f"{_SOFT}.hessian",
            "The Hessian of the loss",
            "∂²L/∂z_i∂z_j = (T + 2 c lse) H_ij + 2 c p_i p_j",
            (
                Step("definition", Partial(Partial(_textbook, z(I)), z(J)), "definition"),
                Step("once", Partial(_factor * p(I) - t(I), z(J)), "softmax_cross_entropy"),
                Step("twice", _factor * h + 2 * c * p(I) * p(J),
                     "product rule; logsumexp, logsumexp.hessian"),
            ),
            _GENERAL,
        ),
        Derivation(
            f"{_SOFT}.hessian_product",
            "The Hessian times a vector",
            "Σ_j ∂²L/∂z_i∂z_j v_j = (T + 2 c lse) p_i (v_i − ⟨p, v⟩) + 2 c ⟨p, v⟩ p_i",
            (
                Step("definition",
                     total(lambda j: Partial(_factor * p(I) - t(I), z(j)) * v(j)), "definition"),
                Step("closed form", product, "softmax_cross_entropy.hessian; term i of a sum"),
            ),
            _GENERAL,
        ),
    )  # fmt: skip


def _shift() -> Derivation:
    a = sp.Symbol("a", real=True)
    moved = sp.log(total(lambda j: sp.exp(z(j) + a)))
    return Derivation(
        f"{_SOFT}.shift",
        "Without z-loss the loss does not change when all logits are shifted",
        "L(z + a) = L(z), whatever the labels sum to",
        (
            Step("shifted", T * moved - total(lambda j: t(j) * (z(j) + a)), "one formula, c = 0"),
            Step("log-sum-exp moves", T * (lse + a) - dot(t, z) - a * T, "logsumexp.shift"),
            Step("unchanged", T * lse - dot(t, z), "algebra"),
        ),
        _GENERAL,
    )


def _at_label() -> Derivation:
    others = total(lambda j: sp.exp(z(j)), but=Y)
    return Derivation(
        f"{_HARD}.at_label",
        "The gradient at the label, without cancellation",
        "p_y − 1 = −A / S",
        (
            Step("as in the seed", p(Y) - 1, "i = y"),
            Step("common divisor", (sp.exp(z(Y)) - SUM_EXP) / SUM_EXP, "definition of p"),
            Step("as shipped", -others / SUM_EXP, "term y of a sum: S − exp(z_y) = A"),
        ),
        (*SOFTMAX,),
        (LABEL,),
        source="where p_y is next to 1, p_y − 1 has no digit left; A and S have all of theirs",
    )


DERIVATIONS = (
    _general(),
    _soft(),
    _hard(),
    *_special_cases(),
    *_by_options(),
    *_second_order(),
    _shift(),
    _at_label(),
)
