"""Derives the gradients of the Poly-1 loss."""

from __future__ import annotations

import sympy as sp

from .derivation import Step, chain, definition
from .notation import MASS, SOFTMAX, I, T, cross, dot, eps, lse, p, t, z
from .terms import Partial, total

_poly = cross(t, p) + eps * total(lambda j: t(j) * (1 - p(j)))

DERIVATIONS = (
    chain(
        "poly_loss_cross_entropy", "Poly-1 loss",
        "∂L/∂z_i = T p_i − t_i − ε p_i (t_i − ⟨p, t⟩)",
        definition(Partial(_poly, z(I))),
        Step("two terms", T * p(I) - t(I) - eps * Partial(dot(t, p), z(I)),
             "softmax_cross_entropy; Σ_j t_j (1 − p_j) = T − ⟨t, p⟩"),
        Step("closed form", T * p(I) - t(I) - eps * p(I) * (t(I) - dot(p, t)),
             "softmax, with cotangent t"),
        definitions=(*SOFTMAX, MASS), source="Leng et al. (2022), PolyLoss",
    ),
    chain(
        "poly_loss_cross_entropy.labels", "Poly-1 loss: the gradient to the labels",
        "∂L/∂t_i = lse − z_i + ε (1 − p_i)",
        definition(Partial(_poly, t(I))),
        Step("one term", -sp.log(p(I)) + eps * (1 - p(I)), "term i of a sum with δ_ij"),
        Step("closed form", lse - z(I) + eps * (1 - p(I)), "log p_i = z_i − lse"),
        definitions=SOFTMAX,
    ),
    chain(
        "poly_loss_cross_entropy.epsilon", "Poly-1 loss: the gradient to epsilon",
        "∂L/∂ε = Σ_j t_j (1 − p_j)",
        definition(Partial(_poly, eps)),
        Step("closed form", total(lambda j: t(j) * (1 - p(j))), "linear in ε"),
        definitions=SOFTMAX,
    ),
)  # fmt: skip
