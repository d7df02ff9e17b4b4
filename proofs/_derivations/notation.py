"""Names that the derivations share: logits z, probabilities p, targets t, lse."""

from __future__ import annotations

import sympy as sp

from .decide import Assumption
from .terms import Index, K, family, total

I, J = Index("i", K), Index("j", K)
A = Index("i", K)  # of the definitions
Y = Index("y", K)
"""The label of an example."""

z, t, w, v, g, p = (family(name) for name in "ztwvgp")
c, eps = sp.symbols("c epsilon", real=True)
lse = sp.Symbol("lse", real=True)
T = sp.Symbol("T", real=True)

SUM_EXP = total(lambda j: sp.exp(z(j)))
P = (p(A), sp.exp(z(A)) / SUM_EXP)
LSE = (lse, sp.log(SUM_EXP))
MASS = (T, total(t))
SOFTMAX = (P, LSE)

LABEL = Assumption("the label y is one of the k classes")
TWO = Assumption("k ≥ 2, so that p_y < 1", least=2)


def dot(a, b) -> sp.Expr:
    """⟨a, b⟩ = Σ_j a_j b_j."""
    return total(lambda j: a(j) * b(j))
