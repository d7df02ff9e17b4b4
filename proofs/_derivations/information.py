"""Entropy, cross-entropy and divergence of distributions."""

from __future__ import annotations

import sympy as sp

from .decide import Assumption
from .derivation import Derivation, Step, definition
from .notation import I
from .terms import Partial, family, total

p, q, t = (family(n, positive=True) for n in "pqt")
_l, _u = family("l"), family("u")
_INSIDE = Assumption("p_j, q_j, t_j > 0; at 0 the terms are 0 log 0 = 0")

ENTROPY = total(lambda j: -p(j) * sp.log(p(j)))
CROSS = total(lambda j: -p(j) * sp.log(q(j)))
RELATIVE = total(lambda j: p(j) * sp.log(p(j) / q(j)))
KL = total(lambda j: t(j) * (sp.log(t(j)) - _l(j)))
LOG_TARGETS = total(lambda j: sp.exp(_u(j)) * (_u(j) - _l(j)))
GENERALIZED = total(lambda j: t(j) * (sp.log(t(j)) - _l(j)) + sp.exp(_l(j)) - t(j))

_KULLBACK = "Kullback and Leibler (1951)"
_LOSSES = {
    "entropy": ("Entropy H(p)", "Shannon (1948); H(p) of the seed"),
    "cross_entropy": (
        "Cross-entropy H(p, q)",
        "H(p, q) of the seed; Cover and Thomas (2006), section 5.4",
    ),
    "relative_entropy": ("Relative entropy KL(p ‖ q)", _KULLBACK),
    "kl_divergence": ("Divergence of log-predictions l from targets t", _KULLBACK),
    "kl_divergence_with_log_targets": (
        "Divergence of log-predictions l from log-targets u",
        _KULLBACK,
    ),
    "generalized_kl_divergence": (
        "Generalized divergence of log-predictions l from targets t",
        "Bregman (1967); Boyd and Vandenberghe (2004), page 90",
    ),
}
"""The title and the source of each."""


def _gradient(name: str, of: sp.Expr, by: sp.Expr, closed: sp.Expr, conclusion: str) -> Derivation:
    title, source = _LOSSES[name.split(".")[0]]
    return Derivation(
        name,
        f"{title}: the gradient to {by.func.__name__}",
        conclusion,
        (
            definition(Partial(of, by)),
            Step("closed form", closed, "term i of a sum with δ_ij; derivative of log"),
        ),
        assumptions=(_INSIDE,),
        source=source,
    )


DERIVATIONS = (
    _gradient("entropy", ENTROPY, p(I), -(sp.log(p(I)) + 1), "∂H/∂p_i = −(log p_i + 1)"),
    _gradient("cross_entropy", CROSS, q(I), -p(I) / q(I), "∂H/∂q_i = −p_i / q_i"),
    _gradient("cross_entropy.p", CROSS, p(I), -sp.log(q(I)), "∂H/∂p_i = −log q_i"),
    _gradient("relative_entropy", RELATIVE, q(I), -p(I) / q(I), "∂KL/∂q_i = −p_i / q_i"),
    _gradient("relative_entropy.p", RELATIVE, p(I), sp.log(p(I) / q(I)) + 1,
              "∂KL/∂p_i = log(p_i / q_i) + 1"),
    _gradient("kl_divergence", KL, _l(I), -t(I), "∂KL/∂l_i = −t_i"),
    _gradient("kl_divergence.targets", KL, t(I), sp.log(t(I)) - _l(I) + 1,
              "∂KL/∂t_i = log t_i − l_i + 1"),
    _gradient("kl_divergence_with_log_targets", LOG_TARGETS, _l(I), -sp.exp(_u(I)),
              "∂KL/∂l_i = −exp u_i"),
    _gradient("kl_divergence_with_log_targets.targets", LOG_TARGETS, _u(I),
              sp.exp(_u(I)) * (_u(I) - _l(I) + 1), "∂KL/∂u_i = exp u_i (u_i − l_i + 1)"),
    _gradient("generalized_kl_divergence", GENERALIZED, _l(I), sp.exp(_l(I)) - t(I),
              "∂KL/∂l_i = exp l_i − t_i"),
    _gradient("generalized_kl_divergence.targets", GENERALIZED, t(I), sp.log(t(I)) - _l(I),
              "∂KL/∂t_i = log t_i − l_i"),
    Derivation(
        "relative_entropy.difference", "Relative entropy is cross-entropy less entropy",
        "KL(p ‖ q) = H(p, q) − H(p)",
        (
            definition(RELATIVE),
            Step("two sums", CROSS - ENTROPY, "log(a/b) = log a − log b"),
        ),
        assumptions=(_INSIDE,),
    ),
    Derivation(
        "kl_divergence.relative", "With l = log q, kl_divergence is relative entropy",
        "Σ_j t_j (log t_j − log q_j) = KL(t ‖ q)",
        (
            Step("definition", total(lambda j: t(j) * (sp.log(t(j)) - sp.log(q(j)))),
                 "l_j = log q_j"),
            Step("relative entropy", total(lambda j: t(j) * sp.log(t(j) / q(j))),
                 "log a − log b = log(a/b)"),
        ),
        assumptions=(_INSIDE,),
    ),
)  # fmt: skip
