"""Derives the gradients of entropy, cross-entropy and divergences of distributions."""

from __future__ import annotations

from functools import partial

import sympy as sp

from .decide import Assumption
from .derivation import Derivation, Step, chain, definition
from .notation import I, cross, relative
from .terms import Partial, family, total

p, q, t = (family(n, positive=True) for n in "pqt")
_l, _u = family("l"), family("u")
_INSIDE = Assumption("p_j, q_j, t_j > 0; at 0 the terms are 0 log 0 = 0")

ENTROPY, CROSS, RELATIVE = cross(p, p), cross(p, q), relative(p, q)

_KULLBACK = "Kullback and Leibler (1951)"
_LOSSES = {
    "entropy": ("Entropy H(p)", ENTROPY, "Shannon (1948); H(p) of the seed"),
    "cross_entropy": (
        "Cross-entropy H(p, q)", CROSS, "H(p, q) of the seed; Cover and Thomas (2006), section 5.4"
    ),
    "relative_entropy": ("Relative entropy KL(p ‖ q)", RELATIVE, _KULLBACK),
    "kl_divergence": (
        "Divergence of log-predictions l from targets t",
        total(lambda j: t(j) * (sp.log(t(j)) - _l(j))), _KULLBACK,
    ),
    "kl_divergence_with_log_targets": (
        "Divergence of log-predictions l from log-targets u",
        total(lambda j: sp.exp(_u(j)) * (_u(j) - _l(j))), _KULLBACK,
    ),
    "generalized_kl_divergence": (
        "Generalized divergence of log-predictions l from targets t",
        total(lambda j: t(j) * (sp.log(t(j)) - _l(j)) + sp.exp(_l(j)) - t(j)),
        "Bregman (1967); Boyd and Vandenberghe (2004), page 90",
    ),
}  # fmt: skip
"""The title, the definition and the source of each loss."""
_chain = partial(chain, assumptions=(_INSIDE,))


def _gradient(name: str, by: sp.Expr, closed: sp.Expr, conclusion: str) -> Derivation:
    """Returns the derivation of a gradient; ``name`` begins with the name of its loss."""
    title, loss, source = _LOSSES[name.partition(".")[0]]
    return _chain(
        name, f"{title}: the gradient to {by.func.__name__}",
        conclusion,
        definition(Partial(loss, by)),
        Step("closed form", closed, "term i of a sum with δ_ij; derivative of log"),
        source=source,
    )  # fmt: skip


DERIVATIONS = (
    _gradient("entropy", p(I), -(sp.log(p(I)) + 1), "∂H/∂p_i = −(log p_i + 1)"),
    _gradient("cross_entropy", q(I), -p(I) / q(I), "∂H/∂q_i = −p_i / q_i"),
    _gradient("cross_entropy.p", p(I), -sp.log(q(I)), "∂H/∂p_i = −log q_i"),
    _gradient("relative_entropy", q(I), -p(I) / q(I), "∂KL/∂q_i = −p_i / q_i"),
    _gradient("relative_entropy.p", p(I), sp.log(p(I) / q(I)) + 1, "∂KL/∂p_i = log(p_i / q_i) + 1"),
    _gradient("kl_divergence", _l(I), -t(I), "∂KL/∂l_i = −t_i"),
    _gradient("kl_divergence.targets", t(I), sp.log(t(I)) - _l(I) + 1,
              "∂KL/∂t_i = log t_i − l_i + 1"),
    _gradient("kl_divergence_with_log_targets", _l(I), -sp.exp(_u(I)), "∂KL/∂l_i = −exp u_i"),
    _gradient("kl_divergence_with_log_targets.targets", _u(I), sp.exp(_u(I)) * (_u(I) - _l(I) + 1),
              "∂KL/∂u_i = exp u_i (u_i − l_i + 1)"),
    _gradient("generalized_kl_divergence", _l(I), sp.exp(_l(I)) - t(I), "∂KL/∂l_i = exp l_i − t_i"),
    _gradient("generalized_kl_divergence.targets", t(I), sp.log(t(I)) - _l(I),
              "∂KL/∂t_i = log t_i − l_i"),
    _chain(
        "relative_entropy.difference", "Relative entropy is cross-entropy less entropy",
        "KL(p ‖ q) = H(p, q) − H(p)",
        definition(RELATIVE),
        Step("two sums", CROSS - ENTROPY, "log(a/b) = log a − log b"),
    ),
    _chain(
        "kl_divergence.relative", "With l = log q, kl_divergence is relative entropy",
        "Σ_j t_j (log t_j − log q_j) = KL(t ‖ q)",
        Step("definition", total(lambda j: t(j) * (sp.log(t(j)) - sp.log(q(j)))), "l_j = log q_j"),
        Step("relative entropy", relative(t, q), "log a − log b = log(a/b)"),
    ),
)  # fmt: skip
