"""Derives softmax cross-entropy with soft and with integer labels from one formula.

The formula is L = T lse + c lse² − ⟨t, z⟩ with T = Σ t, so ∂L/∂z = (T + 2 c lse) p − t.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import sympy as sp

from .decide import Assumption
from .derivation import Derivation, Step, chain, definition
from .notation import LABEL, MASS, SOFTMAX, SUM_EXP, A, I, J, T, Y, c, dot, eps, lse, p, t, v, w, z
from .terms import K, Partial, delta, family, total

_SOFT, _HARD = "softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels"
_GENERAL = (*SOFTMAX, MASS)
_SOURCE = "Bridle (1990); the seed; z-loss: Chowdhery et al. (2022), PaLM"
_s = family("s")  # soft labels, before smoothing and weights

_textbook = total(lambda j: -t(j) * sp.log(p(j))) + c * lse**2
_closed = T * lse + c * lse**2 - dot(t, z)
_factor = T + 2 * c * lse


def _gradient(
    name: str, labels: str, loss: sp.Expr, target: sp.Expr, why: str, **facts: Any
) -> Derivation:
    return chain(
        name, f"{labels} with class weights w, smoothing ε and z-loss c",
        "∂L/∂z_i = (T + 2 c lse) p_i − t_i",
        definition(Partial(loss, z(I))),
        Step("one target", Partial(_textbook, z(I)), why),
        Step("one formula", Partial(_closed, z(I)), "log p_j = z_j − lse"),
        Step("termwise", T * p(I) + 2 * c * lse * p(I) - t(I), "∂lse/∂z_i = p_i (logsumexp)"),
        Step("closed form", _factor * p(I) - t(I), "algebra"),
        definitions=(*_GENERAL, (t(A), target)), **facts,
    )  # fmt: skip


_soft_loss = total(lambda j: w(j) * ((1 - eps) * _s(j) + eps / K) * -sp.log(p(j))) + c * lse**2
_hard_loss = (
    (1 - eps) * w(Y) * -sp.log(p(Y)) + eps / K * total(lambda j: -w(j) * sp.log(p(j))) + c * lse**2
)
_unit_mass = Assumption("Σ_j t_j = 1", equation=(total(t), sp.Integer(1)))
_start = Step("general", _factor * p(I) - t(I), "softmax_cross_entropy")
_uniform = (t(A), (1 - eps) * delta(Y, A) + eps / K)
_no_z_loss = (c, sp.Integer(0))
_surprise = lse - z(I)
_smoothed = total(lambda j: ((1 - eps) * _s(j) + eps / K) * -sp.log(p(j)))
_weighted = total(lambda j: -w(j) * _s(j) * sp.log(p(j)))
_h = delta(I, J) * p(I) - p(I) * p(J)
_product = _factor * p(I) * (v(I) - dot(p, v)) + 2 * c * dot(p, v) * p(I)
_a = sp.Symbol("a", real=True)
_moved = sp.log(total(lambda j: sp.exp(z(j) + _a)))
_others = total(lambda j: sp.exp(z(j)), but=Y)
_chain = partial(chain, definitions=SOFTMAX)
_general = partial(chain, definitions=_GENERAL)

DERIVATIONS = (
    _general(
        f"{_SOFT}.one_formula", "Every variant is one formula",
        "L = T lse + c lse² − ⟨t, z⟩",
        definition(_textbook),
        Step("logarithm of the softmax", total(lambda j: t(j) * (lse - z(j))) + c * lse**2,
             "log p_j = z_j − lse"),
        Step("one formula", _closed, "sums are linear"),
        source=_SOURCE,
    ),
    _gradient(
        _SOFT, "Soft labels s", _soft_loss,
        w(A) * ((1 - eps) * _s(A) + eps / K), "t_j = w_j ((1 − ε) s_j + ε/k)",
        source=_SOURCE,
        about="Nothing is assumed of the labels; the factor T is 1 only if they sum to 1.",
    ),
    _gradient(
        _HARD, "Integer labels", _hard_loss,
        (1 - eps) * w(Y) * delta(Y, A) + eps / K * w(A), "t_j = (1 − ε) w_y δ_yj + w_j ε/k",
        assumptions=(LABEL,), source=f"{_SOURCE}; smoothing: Szegedy et al. (2016)",
    ),
    chain(
        f"{_SOFT}.unit_mass", "Soft labels that sum to 1, no z-loss: the seed's form",
        "∂L/∂z_i = p_i − t_i",
        _start,
        Step("seed", p(I) - t(I), "T = 1, c = 0", "last line of the last block"),
        definitions=(*_GENERAL, _no_z_loss), assumptions=(_unit_mass,),
    ),
    chain(
        f"{_HARD}.plain", "Integer labels without options",
        "∂L/∂z_i = p_i − δ_yi",
        _start,
        Step("one-hot", p(I) - delta(Y, I), "t_j = δ_yj, T = 1, c = 0"),
        definitions=(*_GENERAL, _no_z_loss, (t(A), delta(Y, A))), assumptions=(LABEL,),
    ),
    chain(
        f"{_HARD}.smoothed", "Integer labels with smoothing",
        "∂L/∂z_i = p_i − (1 − ε) δ_yi − ε/k",
        _start,
        Step("smoothed", p(I) - (1 - eps) * delta(Y, I) - eps / K, "T = 1, c = 0"),
        definitions=(*_GENERAL, _no_z_loss, _uniform), assumptions=(LABEL,),
    ),
    chain(
        f"{_HARD}.weighted", "Integer labels with class weights",
        "∂L/∂z_i = w_y (p_i − δ_yi)",
        _start,
        Step("weighted", w(Y) * (p(I) - delta(Y, I)), "t_j = w_y δ_yj, c = 0"),
        definitions=(*_GENERAL, _no_z_loss, (t(A), w(Y) * delta(Y, A))), assumptions=(LABEL,),
    ),
    chain(
        f"{_HARD}.z_loss", "Integer labels with z-loss",
        "∂L/∂z_i = (1 + 2 c lse) p_i − δ_yi",
        _start,
        Step("with z-loss", (1 + 2 * c * lse) * p(I) - delta(Y, I), "t_j = δ_yj"),
        definitions=(*_GENERAL, (t(A), delta(Y, A))), assumptions=(LABEL,),
    ),
    _chain(
        f"{_SOFT}.labels", "The gradient to the labels",
        "∂L/∂t_i = lse − z_i",
        definition(Partial(_textbook, t(I))),
        Step("one term", -sp.log(p(I)), "term i of a sum with δ_ij"),
        Step("closed form", _surprise, "log p_i = z_i − lse"),
    ),
    _chain(
        f"{_SOFT}.class_weights", "The gradient to the class weights",
        "∂L/∂w_i = s_i (lse − z_i)",
        definition(Partial(_weighted, w(I))),
        Step("one term", -_s(I) * sp.log(p(I)), "term i of a sum with δ_ij"),
        Step("closed form", _s(I) * _surprise, "log p_i = z_i − lse"),
    ),
    _chain(
        f"{_SOFT}.label_smoothing", "The gradient to the smoothing",
        "∂L/∂ε = Σ_j (1/k − s_j) (lse − z_j)",
        definition(Partial(_smoothed, eps)),
        Step("termwise", total(lambda j: (1 / K - _s(j)) * -sp.log(p(j))), "linear in ε"),
        Step("closed form", total(lambda j: (1 / K - _s(j)) * (lse - z(j))), "log p_j = z_j − lse"),
    ),
    _chain(
        f"{_SOFT}.z_loss", "The gradient to the coefficient of the z-loss",
        "∂L/∂c = lse²",
        definition(Partial(_textbook, c)),
        Step("closed form", lse**2, "linear in c"),
    ),
    _general(
        f"{_SOFT}.hessian", "The Hessian of the loss",
        "∂²L/∂z_i∂z_j = (T + 2 c lse) H_ij + 2 c p_i p_j",
        definition(Partial(Partial(_textbook, z(I)), z(J))),
        Step("once", Partial(_factor * p(I) - t(I), z(J)), "softmax_cross_entropy"),
        Step("twice", _factor * _h + 2 * c * p(I) * p(J),
             "product rule; logsumexp, logsumexp.hessian"),
    ),
    _general(
        f"{_SOFT}.hessian_product", "The Hessian times a vector",
        "Σ_j ∂²L/∂z_i∂z_j v_j = (T + 2 c lse) p_i (v_i − ⟨p, v⟩) + 2 c ⟨p, v⟩ p_i",
        definition(total(lambda j: Partial(_factor * p(I) - t(I), z(j)) * v(j))),
        Step("closed form", _product, "softmax_cross_entropy.hessian; term i of a sum"),
    ),
    _general(
        f"{_SOFT}.shift", "Without z-loss the loss does not change when all logits are shifted",
        "L(z + a) = L(z), whatever the labels sum to",
        Step("shifted", T * _moved - total(lambda j: t(j) * (z(j) + _a)), "one formula, c = 0"),
        Step("log-sum-exp moves", T * (lse + _a) - dot(t, z) - _a * T, "logsumexp.shift"),
        Step("unchanged", T * lse - dot(t, z), "algebra"),
    ),
    _chain(
        f"{_HARD}.at_label", "The gradient at the label, without cancellation",
        "p_y − 1 = −A / S",
        Step("as in the seed", p(Y) - 1, "i = y"),
        Step("common divisor", (sp.exp(z(Y)) - SUM_EXP) / SUM_EXP, "definition of p"),
        Step("as shipped", -_others / SUM_EXP, "term y of a sum: S − exp(z_y) = A"),
        assumptions=(LABEL,),
        source="where p_y is next to 1, p_y − 1 has no digit left; A and S have all of theirs",
    ),
)  # fmt: skip
