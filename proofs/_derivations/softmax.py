"""Softmax, log-softmax and log-sum-exp: gradients, Hessian, invariance."""

from __future__ import annotations

import sympy as sp

from .derivation import Derivation, Step
from .notation import LABEL, SOFTMAX, SUM_EXP, I, J, Y, c, dot, eps, g, lse, p, v, z
from .terms import Partial, delta, total

_BOYD = "Boyd and Vandenberghe (2004), Convex Optimization, section 3.1.5"


def _hessian_entry(i, j) -> sp.Expr:
    return delta(i, j) * p(i) - p(i) * p(j)


def _softmax() -> Derivation:
    return Derivation(
        "softmax",
        "Softmax: the product of a cotangent with its Jacobian",
        "∂⟨g, p⟩/∂z_i = p_i (g_i − ⟨p, g⟩)",
        (
            Step("definition", Partial(dot(g, p), z(I)), "definition"),
            Step("by components", total(lambda j: g(j) * Partial(p(j), z(I))), "sums are linear"),
            Step("Jacobian", total(lambda j: g(j) * _hessian_entry(I, j)),
                 "seed_jacobian_same, seed_jacobian_different"),
            Step("term i apart", p(I) * g(I) - p(I) * dot(p, g), "term i of a sum with δ_ij"),
            Step("closed form", p(I) * (g(I) - dot(p, g)), "algebra"),
        ),
        SOFTMAX,
        source="Bridle (1990); the seed, cases j = i and j ≠ i",
    )  # fmt: skip


def _log_softmax() -> Derivation:
    mass = total(g)
    return Derivation(
        "log_softmax",
        "Log-softmax: the product of a cotangent with its Jacobian",
        "∂⟨g, log p⟩/∂z_i = g_i − p_i Σ_j g_j",
        (
            Step("definition", Partial(total(lambda j: g(j) * sp.log(p(j))), z(I)), "definition"),
            Step("logarithm of the softmax", Partial(total(lambda j: g(j) * (z(j) - lse)), z(I)),
                 "log p_j = z_j − lse"),
            Step("by components", total(lambda j: g(j) * (delta(I, j) - p(I))), "∂lse/∂z_i = p_i"),
            Step("closed form", g(I) - p(I) * mass, "term i of a sum with δ_ij"),
            Step("as shipped", (1 - p(I)) * g(I) - p(I) * (mass - g(I)),
                 "algebra: so that nothing cancels where p_i is next to 1"),
        ),
        SOFTMAX,
        source="Bridle (1990)",
    )  # fmt: skip


def _logsumexp() -> Derivation:
    return Derivation(
        "logsumexp",
        "Log-sum-exp: its gradient is the softmax",
        "∂lse/∂z_i = p_i",
        (
            Step("definition", Partial(lse, z(I)), "definition"),
            Step("chain rule", Partial(SUM_EXP, z(I)) / SUM_EXP, "derivative of log"),
            Step("one term", sp.exp(z(I)) / SUM_EXP, "term i of a sum with δ_ij"),
            Step("closed form", p(I), "definition of p"),
        ),
        SOFTMAX,
        source=_BOYD,
    )


_ENTROPY = (sp.Symbol("H", real=True), total(lambda j: -p(j) * sp.log(p(j))))


def _softmax_entropy() -> Derivation:
    entropy, summed = _ENTROPY
    m = sp.Symbol("m", real=True)
    return Derivation(
        "softmax_entropy",
        "The entropy H of a softmax",
        "∂H/∂z_i = −p_i (log p_i + H)",
        (
            Step("definition", Partial(summed, z(I)), "definition"),
            Step("by components",
                 -total(lambda j: (sp.log(p(j)) + 1) * Partial(p(j), z(I))),
                 "derivative of x log x"),
            Step("Jacobian", -total(lambda j: (sp.log(p(j)) + 1) * _hessian_entry(I, j)),
                 "seed_jacobian_same, seed_jacobian_different"),
            Step("closed form", -p(I) * (sp.log(p(I)) + entropy), "Σ_j p_j = 1"),
            Step("as shipped", p(I) * (m - z(I) - total(lambda j: p(j) * (m - z(j)))),
                 "log p_i = z_i − lse; for any m, shipped the largest logit"),
        ),
        (*SOFTMAX, _ENTROPY),
        source="Shannon (1948); Williams and Peng (1991)",
    )  # fmt: skip


def _token_statistics() -> Derivation:
    entropy, summed = _ENTROPY
    return Derivation(
        "token_statistics",
        "Loss L, log-sum-exp and entropy H of a token, in any weighing 1 : c : ε",
        "∂(L + c lse + ε H)/∂z_i = (p_i − 1{y = i}) + c p_i − ε p_i (log p_i + H)",
        (
            Step("definition", Partial(-sp.log(p(Y)) + c * lse + eps * entropy, z(I)),
                 "definition"),
            Step("by terms",
                 Partial(lse - z(Y), z(I)) + c * Partial(lse, z(I)) + eps * Partial(summed, z(I)),
                 "log p_y = z_y − lse; sums are linear"),
            Step("closed form",
                 (p(I) - delta(Y, I)) + c * p(I) - eps * p(I) * (sp.log(p(I)) + entropy),
                 "logsumexp, softmax_entropy"),
        ),
        (*SOFTMAX, _ENTROPY),
        (LABEL,),
        about="A top log-probability is −L at that class.",
    )  # fmt: skip


def _hessian() -> Derivation:
    return Derivation(
        "logsumexp.hessian",
        "The Hessian of log-sum-exp is diag(p) − p pᵀ",
        "∂²lse/∂z_i∂z_j = δ_ij p_i − p_i p_j",
        (
            Step("definition", Partial(Partial(lse, z(J)), z(I)), "definition"),
            Step("once", Partial(p(J), z(I)), "logsumexp"),
            Step("twice", _hessian_entry(I, J), "seed_jacobian_same, seed_jacobian_different"),
        ),
        SOFTMAX,
        source=_BOYD,
    )


def _semidefinite() -> Derivation:
    square = total(lambda i: p(i) * (v(i) - dot(p, v)) ** 2, letter="i")
    return Derivation(
        "logsumexp.hessian_semidefinite",
        "That Hessian is positive semi-definite",
        "vᵀ H v = Σ_i p_i (v_i − ⟨p, v⟩)² ≥ 0",
        (
            Step("definition", total(lambda i: total(lambda j: v(i) * _hessian_entry(i, j) * v(j)),
                                     letter="i"), "definition"),
            Step("sums", total(lambda i: p(i) * v(i) ** 2, letter="i") - dot(p, v) ** 2,
                 "sums are linear; term i of a sum with δ_ij"),
            Step("a variance", square, "Σ_i p_i = 1"),
            Step("sign", sp.Integer(0), "squares with positive weights", "", "≥", square),
        ),
        SOFTMAX,
        source=_BOYD,
    )  # fmt: skip


def _null_vector() -> Derivation:
    return Derivation(
        "logsumexp.hessian_null_vector",
        "The vector of ones is in its null space",
        "Σ_j H_ij · 1 = 0",
        (
            Step("row sum", total(lambda j: _hessian_entry(I, j)), "definition"),
            Step("split", p(I) - p(I) * total(p), "term i of a sum with δ_ij"),
            Step("zero", sp.Integer(0), "Σ_j p_j = 1"),
        ),
        SOFTMAX,
        source="shifting all logits changes nothing",
    )


def _shifts() -> tuple[Derivation, ...]:
    a = sp.Symbol("a", real=True)
    moved = total(lambda j: sp.exp(z(j) + a))
    return (
        Derivation(
            "softmax.shift",
            "Softmax does not change when all logits are shifted",
            "p_i(z + a) = p_i(z)",
            (
                Step("shifted", sp.exp(z(I) + a) / moved, "definition"),
                Step("factor", sp.exp(a) * sp.exp(z(I)) / (sp.exp(a) * SUM_EXP),
                     "exp(z + a) = exp(z) exp(a)"),
                Step("cancelled", p(I), "exp(a) > 0 cancels"),
            ),
            SOFTMAX,
        ),
        Derivation(
            "logsumexp.shift",
            "Log-sum-exp moves by the shift",
            "lse(z + a) = lse(z) + a",
            (
                Step("shifted", sp.log(moved), "definition"),
                Step("factor", sp.log(sp.exp(a) * SUM_EXP), "exp(z + a) = exp(z) exp(a)"),
                Step("logarithm", lse + a, "log of a product of positive numbers"),
            ),
            SOFTMAX,
        ),
    )  # fmt: skip


DERIVATIONS = (
    _softmax(),
    _log_softmax(),
    _logsumexp(),
    _hessian(),
    _semidefinite(),
    _null_vector(),
    *_shifts(),
    _softmax_entropy(),
    _token_statistics(),
)
