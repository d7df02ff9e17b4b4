"""Derives gradients of divergences between the softmaxes of logits and of target logits."""

from __future__ import annotations

from functools import partial

import sympy as sp

from .derivation import Derivation, Step, chain, definition
from .notation import A, I, jacobian, p, relative, w, z
from .terms import Partial, delta, family, total

q = family("q")
tau = sp.Symbol("tau", positive=True)
_Z = total(lambda j: sp.exp(z(j) / tau))
_W = total(lambda j: sp.exp(w(j) / tau))
_D = _W - _Z
_BOTH = ((q(A), sp.exp(z(A) / tau) / _Z), (p(A), sp.exp(w(A) / tau) / _W))
_KL = relative(p, q)
_HINTON = "Hinton, Vinyals and Dean (2015); Kullback and Leibler (1951)"
_chain = partial(chain, definitions=_BOTH)

_NAME, _TITLE = "softmax_jensen_shannon_divergence", "Jensen-Shannon divergence of logits"
_AGARWAL = "Agarwal et al. (2024); Lin (1991)"
alpha, beta = sp.symbols("alpha beta", positive=True)  # alpha stands for 1 - beta
_P, _Q = family("p", positive=True), family("q", positive=True)  # any positive numbers


def _m(j) -> sp.Expr:
    return beta * p(j) + alpha * q(j)


def _mixed(j) -> sp.Expr:
    return beta * _P(j) + alpha * _Q(j)


def _term(j) -> sp.Expr:
    """Returns the term of class j in the sum that is the divergence."""
    of_p, of_q = (of(j) * sp.log(of(j) / _mixed(j)) for of in (_P, _Q))
    return beta * of_p + alpha * of_q


def _to_probability(of, weight, suffix: str, formula: str) -> Derivation:
    return chain(
        _NAME + suffix,
        f"{_TITLE}: the derivative to a probability, m = β p + α q with α = 1 − β",
        formula,
        definition(Partial(total(_term), of(I))),
        Step("closed form", weight * sp.log(of(I) / _mixed(I)),
             "the derivatives of the logarithms add up: β p_i/m_i + α q_i/m_i = 1"),
        source=_AGARWAL,
    )  # fmt: skip


def _to_logits(x, of, weight, suffix: str, what: str, formula: str) -> Derivation:
    surplus = sp.log(of(I) / _m(I)) - relative(of, _m)
    return _chain(
        _NAME + suffix,
        f"{_TITLE}: {what}",
        formula,
        Step("chain rule",
             weight * total(lambda j: Partial(of(j), x(I)) * sp.log(of(j) / _m(j))),
             "by the derivatives to the probabilities, derived above"),
        Step("Jacobian", weight * total(lambda j: jacobian(I, j, of) / tau * sp.log(of(j) / _m(j))),
             "softmax"),
        Step("closed form", weight * of(I) * surplus / tau, "Σ_j δ_ij x_j = x_i"),
        source=_AGARWAL,
    )  # fmt: skip


_apart = sp.exp(w(I) / tau) - sp.exp(z(I) / tau)

DERIVATIONS = (
    _chain(
        "softmax_kl_divergence", "Divergence of logits z from target logits w",
        "∂KL/∂z_i = (q_i − p_i)/τ",
        definition(Partial(_KL, z(I))),
        Step("log-softmax", -total(lambda j: p(j) * (delta(I, j) - q(I)) / tau),
             "p is no function of z; ∂ log q_j/∂z_i = (δ_ij − q_i)/τ"),
        Step("closed form", (q(I) - p(I)) / tau, "Σ_j p_j = 1"),
        source=_HINTON,
    ),
    _chain(
        "softmax_kl_divergence.targets", "Divergence of logits: the gradient to the target logits",
        "∂KL/∂w_i = p_i (log(p_i / q_i) − KL)/τ",
        definition(Partial(_KL, w(I))),
        Step("chain rule", total(lambda j: Partial(p(j), w(I)) * (sp.log(p(j) / q(j)) + 1)),
             "product rule; q is no function of w"),
        Step("Jacobian", total(lambda j: jacobian(I, j, p) / tau * (sp.log(p(j) / q(j)) + 1)),
             "softmax"),
        Step("closed form", p(I) * (sp.log(p(I) / q(I)) - _KL) / tau, "Σ_j p_j = 1"),
        source=_HINTON,
    ),
    _chain(
        "softmax_kl_divergence.temperature",
        "Divergence of logits: the gradient to the temperature",
        "∂KL/∂τ = −Σ_j (z_j ∂KL/∂z_j + w_j ∂KL/∂w_j)/τ",
        definition(Partial(_KL, tau)),
        Step("closed form", -total(
            lambda j: z(j) * (q(j) - p(j))
            + w(j) * p(j) * (sp.log(p(j) / q(j)) - _KL)) / tau**2,
             "KL depends on z/τ and w/τ alone"),
    ),
    _chain(
        "softmax_kl_divergence.terms", "Divergence of logits: the sum of which no term is negative",
        "KL = Σ_j (p_j log(p_j / q_j) − (p_j − q_j))",
        definition(_KL),
        Step("as shipped", total(lambda j: p(j) * sp.log(p(j) / q(j)) - (p(j) - q(j))),
             "Σ_j p_j = Σ_j q_j = 1"),
    ),
    _chain(
        "softmax_kl_divergence.log_ratio", "Divergence of logits: the logarithm of the ratio",
        "log(p_i / q_i) = (w_i − z_i)/τ − log(1 + D/Z), D = W − Z",
        definition(sp.log(p(I) / q(I))),
        Step("two sums", (w(I) - z(I)) / tau - sp.log(_W / _Z), "log exp a = a"),
        Step("as shipped", (w(I) - z(I)) / tau - sp.log(1 + _D / _Z), "W = Z + D"),
    ),
    _chain(
        "softmax_kl_divergence.difference",
        "Divergence of logits: the difference of the probabilities",
        "p_i − q_i = (2 (exp(w_i/τ) − exp(z_i/τ)) − (p_i + q_i) D)/(Z + W)",
        definition(p(I) - q(I)),
        Step("as shipped", (2 * _apart - (p(I) + q(I)) * _D) / (_Z + _W),
             "Z (p_i − q_i) + W (p_i − q_i), where Z q_i and W p_i are exponentials"),
    ),
    _to_probability(_Q, alpha, ".q", "∂JS/∂q_i = α log(q_i / m_i)"),
    _to_probability(_P, beta, ".p", "∂JS/∂p_i = β log(p_i / m_i)"),
    _to_logits(z, q, alpha, "", "the gradient to the logits z",
               "∂JS/∂z_i = α q_i (log(q_i / m_i) − KL(q‖m))/τ"),
    _to_logits(w, p, beta, ".targets", "the gradient to the target logits w",
               "∂JS/∂w_i = β p_i (log(p_i / m_i) − KL(p‖m))/τ"),
    chain(
        f"{_NAME}.beta",
        f"{_TITLE}: what a class i gives to the derivative to beta, as α falls when β rises",
        "∂/∂β − ∂/∂α = p_i log(p_i / m_i) − q_i log(q_i / m_i) − (p_i − q_i)",
        definition(Partial(_term(I), beta) - Partial(_term(I), alpha)),
        Step("closed form", _P(I) * sp.log(_P(I) / _mixed(I))
             - _Q(I) * sp.log(_Q(I) / _mixed(I)) - (_P(I) - _Q(I)),
             "∂m_i/∂β − ∂m_i/∂α = p_i − q_i"),
        source=_AGARWAL,
    ),
    _chain(
        f"{_NAME}.log_ratio", f"{_TITLE}: the logarithms from that of the ratio",
        "log(p_i / m_i) = −log(β + α exp(−d)), d = log(p_i / q_i)",
        definition(sp.log(p(I) / _m(I))),
        Step("as shipped", -sp.log(beta + alpha * sp.exp(-sp.log(p(I) / q(I)))),
             "exp(−log(p_i / q_i)) = q_i / p_i"),
    ),
)  # fmt: skip
