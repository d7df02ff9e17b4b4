"""Derives gradients, Hessian and invariances of softmax, log-softmax and log-sum-exp."""

from __future__ import annotations

from functools import partial

import sympy as sp

from .derivation import Step, chain, definition
from .notation import LABEL, SOFTMAX, SUM_EXP, I, J, Y, c, dot, eps, g, jacobian, lse, p, v, z
from .terms import Partial, delta, total

_BOYD = "Boyd and Vandenberghe (2004), Convex Optimization, section 3.1.5"
_ENTROPY = (sp.Symbol("H", real=True), total(lambda j: -p(j) * sp.log(p(j))))
_mass = total(g)
_square = total(lambda i: p(i) * (v(i) - dot(p, v)) ** 2, letter="i")
_a = sp.Symbol("a", real=True)
_moved = total(lambda j: sp.exp(z(j) + _a))
_entropy, _summed = _ENTROPY
_m = sp.Symbol("m", real=True)
_chain = partial(chain, definitions=SOFTMAX)

DERIVATIONS = (
    _chain(
        "softmax", "Softmax: the product of a cotangent with its Jacobian",
        "∂⟨g, p⟩/∂z_i = p_i (g_i − ⟨p, g⟩)",
        definition(Partial(dot(g, p), z(I))),
        Step("by components", total(lambda j: g(j) * Partial(p(j), z(I))), "sums are linear"),
        Step("Jacobian", total(lambda j: g(j) * jacobian(I, j)),
             "seed_jacobian_same, seed_jacobian_different"),
        Step("term i apart", p(I) * g(I) - p(I) * dot(p, g), "term i of a sum with δ_ij"),
        Step("closed form", p(I) * (g(I) - dot(p, g)), "algebra"),
        source="Bridle (1990); the seed, cases j = i and j ≠ i",
    ),
    _chain(
        "log_softmax", "Log-softmax: the product of a cotangent with its Jacobian",
        "∂⟨g, log p⟩/∂z_i = g_i − p_i Σ_j g_j",
        definition(Partial(total(lambda j: g(j) * sp.log(p(j))), z(I))),
        Step("logarithm of the softmax", Partial(total(lambda j: g(j) * (z(j) - lse)), z(I)),
             "log p_j = z_j − lse"),
        Step("by components", total(lambda j: g(j) * (delta(I, j) - p(I))), "∂lse/∂z_i = p_i"),
        Step("closed form", g(I) - p(I) * _mass, "term i of a sum with δ_ij"),
        Step("as shipped", (1 - p(I)) * g(I) - p(I) * (_mass - g(I)),
             "algebra: so that nothing cancels where p_i is next to 1"),
        source="Bridle (1990)",
    ),
    _chain(
        "logsumexp", "Log-sum-exp: its gradient is the softmax",
        "∂lse/∂z_i = p_i",
        definition(Partial(lse, z(I))),
        Step("chain rule", Partial(SUM_EXP, z(I)) / SUM_EXP, "derivative of log"),
        Step("one term", sp.exp(z(I)) / SUM_EXP, "term i of a sum with δ_ij"),
        Step("closed form", p(I), "definition of p"),
        source=_BOYD,
    ),
    _chain(
        "logsumexp.hessian", "The Hessian of log-sum-exp is diag(p) − p pᵀ",
        "∂²lse/∂z_i∂z_j = δ_ij p_i − p_i p_j",
        definition(Partial(Partial(lse, z(J)), z(I))),
        Step("once", Partial(p(J), z(I)), "logsumexp"),
        Step("twice", jacobian(I, J), "seed_jacobian_same, seed_jacobian_different"),
        source=_BOYD,
    ),
    _chain(
        "logsumexp.hessian_semidefinite", "That Hessian is positive semi-definite",
        "vᵀ H v = Σ_i p_i (v_i − ⟨p, v⟩)² ≥ 0",
        definition(total(lambda i: total(lambda j: v(i) * jacobian(i, j) * v(j)), letter="i")),
        Step("sums", total(lambda i: p(i) * v(i) ** 2, letter="i") - dot(p, v) ** 2,
             "sums are linear; term i of a sum with δ_ij"),
        Step("a variance", _square, "Σ_i p_i = 1"),
        Step("sign", sp.Integer(0), "squares with positive weights", "", "≥", _square),
        source=_BOYD,
    ),
    _chain(
        "logsumexp.hessian_null_vector", "The vector of ones is in its null space",
        "Σ_j H_ij · 1 = 0",
        Step("row sum", total(lambda j: jacobian(I, j)), "definition"),
        Step("split", p(I) - p(I) * total(p), "term i of a sum with δ_ij"),
        Step("zero", sp.Integer(0), "Σ_j p_j = 1"),
        source="shifting all logits changes nothing",
    ),
    _chain(
        "softmax.shift", "Softmax does not change when all logits are shifted",
        "p_i(z + a) = p_i(z)",
        Step("shifted", sp.exp(z(I) + _a) / _moved, "definition"),
        Step("factor", sp.exp(_a) * sp.exp(z(I)) / (sp.exp(_a) * SUM_EXP),
             "exp(z + a) = exp(z) exp(a)"),
        Step("cancelled", p(I), "exp(a) > 0 cancels"),
    ),
    _chain(
        "logsumexp.shift", "Log-sum-exp moves by the shift",
        "lse(z + a) = lse(z) + a",
        Step("shifted", sp.log(_moved), "definition"),
        Step("factor", sp.log(sp.exp(_a) * SUM_EXP), "exp(z + a) = exp(z) exp(a)"),
        Step("logarithm", lse + _a, "log of a product of positive numbers"),
    ),
    _chain(
        "softmax_entropy", "The entropy H of a softmax",
        "∂H/∂z_i = −p_i (log p_i + H)",
        definition(Partial(_summed, z(I))),
        Step("by components", -total(lambda j: (sp.log(p(j)) + 1) * Partial(p(j), z(I))),
             "derivative of x log x"),
        Step("Jacobian", -total(lambda j: (sp.log(p(j)) + 1) * jacobian(I, j)),
             "seed_jacobian_same, seed_jacobian_different"),
        Step("closed form", -p(I) * (sp.log(p(I)) + _entropy), "Σ_j p_j = 1"),
        Step("as shipped", p(I) * (_m - z(I) - total(lambda j: p(j) * (_m - z(j)))),
             "log p_i = z_i − lse; for any m, shipped the largest logit"),
        definitions=(*SOFTMAX, _ENTROPY), source="Shannon (1948); Williams and Peng (1991)",
    ),
    _chain(
        "token_statistics",
        "Loss L, log-sum-exp and entropy H of a token, in any weighing 1 : c : ε",
        "∂(L + c lse + ε H)/∂z_i = (p_i − 1{y = i}) + c p_i − ε p_i (log p_i + H)",
        definition(Partial(-sp.log(p(Y)) + c * lse + eps * _entropy, z(I))),
        Step("by terms",
             Partial(lse - z(Y), z(I)) + c * Partial(lse, z(I)) + eps * Partial(_summed, z(I)),
             "log p_y = z_y − lse; sums are linear"),
        Step("closed form",
             (p(I) - delta(Y, I)) + c * p(I) - eps * p(I) * (sp.log(p(I)) + _entropy),
             "logsumexp, softmax_entropy"),
        definitions=(*SOFTMAX, _ENTROPY), assumptions=(LABEL,),
        about="A top log-probability is −L at that class.",
    ),
)  # fmt: skip
