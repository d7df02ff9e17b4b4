"""The divergence of the softmax of logits from the softmax of target logits."""

from __future__ import annotations

import sympy as sp

from .derivation import Derivation, Step
from .notation import A, I, p, w, z
from .terms import Partial, delta, family, total

q = family("q")
tau = sp.Symbol("tau", positive=True)
_Z = total(lambda j: sp.exp(z(j) / tau))
_W = total(lambda j: sp.exp(w(j) / tau))
_D = _W - _Z
_BOTH = ((q(A), sp.exp(z(A) / tau) / _Z), (p(A), sp.exp(w(A) / tau) / _W))
_KL = total(lambda j: p(j) * sp.log(p(j) / q(j)))
_HINTON = "Hinton, Vinyals and Dean (2015); Kullback and Leibler (1951)"


def _slope(i, j, of) -> sp.Expr:
    return (delta(i, j) * of(i) - of(i) * of(j)) / tau


def _gradients() -> tuple[Derivation, ...]:
    surplus = sp.log(p(I) / q(I)) - _KL
    return (
        Derivation(
            "softmax_kl_divergence",
            "Divergence of logits z from target logits w",
            "∂KL/∂z_i = (q_i − p_i)/τ",
            (
                Step("definition", Partial(_KL, z(I)), "definition"),
                Step("log-softmax", -total(lambda j: p(j) * (delta(I, j) - q(I)) / tau),
                     "p is no function of z; ∂ log q_j/∂z_i = (δ_ij − q_i)/τ"),
                Step("closed form", (q(I) - p(I)) / tau, "Σ_j p_j = 1"),
            ),
            _BOTH,
            source=_HINTON,
        ),
        Derivation(
            "softmax_kl_divergence.targets",
            "Divergence of logits: the gradient to the target logits",
            "∂KL/∂w_i = p_i (log(p_i / q_i) − KL)/τ",
            (
                Step("definition", Partial(_KL, w(I)), "definition"),
                Step("chain rule", total(
                    lambda j: Partial(p(j), w(I)) * (sp.log(p(j) / q(j)) + 1)),
                     "product rule; q is no function of w"),
                Step("Jacobian", total(
                    lambda j: _slope(I, j, p) * (sp.log(p(j) / q(j)) + 1)), "softmax"),
                Step("closed form", p(I) * surplus / tau, "Σ_j p_j = 1"),
            ),
            _BOTH,
            source=_HINTON,
        ),
        Derivation(
            "softmax_kl_divergence.temperature",
            "Divergence of logits: the gradient to the temperature",
            "∂KL/∂τ = −Σ_j (z_j ∂KL/∂z_j + w_j ∂KL/∂w_j)/τ",
            (
                Step("definition", Partial(_KL, tau), "definition"),
                Step("closed form", -total(
                    lambda j: z(j) * (q(j) - p(j))
                    + w(j) * p(j) * (sp.log(p(j) / q(j)) - _KL)) / tau**2,
                     "KL depends on z/τ and w/τ alone"),
            ),
            _BOTH,
        ),
    )  # fmt: skip


def _as_shipped() -> tuple[Derivation, ...]:
    """The form of the library, which keeps the digits if p and q are close."""
    apart = sp.exp(w(I) / tau) - sp.exp(z(I) / tau)
    return (
        Derivation(
            "softmax_kl_divergence.terms",
            "Divergence of logits: the sum of which no term is negative",
            "KL = Σ_j (p_j log(p_j / q_j) − (p_j − q_j))",
            (
                Step("definition", _KL, "definition"),
                Step("as shipped", total(
                    lambda j: p(j) * sp.log(p(j) / q(j)) - (p(j) - q(j))),
                     "Σ_j p_j = Σ_j q_j = 1"),
            ),
            _BOTH,
        ),
        Derivation(
            "softmax_kl_divergence.log_ratio",
            "Divergence of logits: the logarithm of the ratio",
            "log(p_i / q_i) = (w_i − z_i)/τ − log(1 + D/Z), D = W − Z",
            (
                Step("definition", sp.log(p(I) / q(I)), "definition"),
                Step("two sums", (w(I) - z(I)) / tau - sp.log(_W / _Z), "log exp a = a"),
                Step("as shipped", (w(I) - z(I)) / tau - sp.log(1 + _D / _Z), "W = Z + D"),
            ),
            _BOTH,
        ),
        Derivation(
            "softmax_kl_divergence.difference",
            "Divergence of logits: the difference of the probabilities",
            "p_i − q_i = (2 (exp(w_i/τ) − exp(z_i/τ)) − (p_i + q_i) D)/(Z + W)",
            (
                Step("definition", p(I) - q(I), "definition"),
                Step("as shipped", (2 * apart - (p(I) + q(I)) * _D) / (_Z + _W),
                     "Z (p_i − q_i) + W (p_i − q_i), where Z q_i and W p_i are exponentials"),
            ),
            _BOTH,
        ),
    )  # fmt: skip


DERIVATIONS = (*_gradients(), *_as_shipped())
