"""Defines what the derivations share: logits z, probabilities p, targets t, lse, and sums."""

from __future__ import annotations

import sympy as sp

from .decide import Assumption
from .terms import Index, K, delta, family, total

I, J = Index("i", K), Index("j", K)
A = Index("i", K)  # the index in the heads of definitions
Y = Index("y", K)
"""The label of an example."""

z, t, w, v, g, p = (family(name) for name in "ztwvgp")
c, eps = sp.symbols("c epsilon", real=True)
lse = sp.Symbol("lse", real=True)
T = sp.Symbol("T", real=True)


def sum_exp(shift: sp.Expr | int = 0, but: sp.Expr | None = None) -> sp.Expr:
    """Returns Σ_j exp(z_j + shift), without the term at ``but``."""
    return total(lambda j: sp.exp(z(j) + shift), but=but)


SUM_EXP = sum_exp()
P = (p(A), sp.exp(z(A)) / SUM_EXP)
LSE = (lse, sp.log(SUM_EXP))
MASS = (T, total(t))
SOFTMAX = (P, LSE)

LABEL = Assumption("the label y is one of the k classes")
TWO = Assumption("k ≥ 2, so that p_y < 1", least=2)


def dot(a, b) -> sp.Expr:
    """Returns ⟨a, b⟩ = Σ_j a_j b_j."""
    return total(lambda j: a(j) * b(j))


def cross(a, b, letter: str = "j") -> sp.Expr:
    """Returns the cross-entropy H(a, b) = −Σ_j a_j log b_j, which is an entropy if b is a."""
    return total(lambda j: -a(j) * sp.log(b(j)), letter=letter)


def relative(a, b) -> sp.Expr:
    """Returns the relative entropy KL(a ‖ b) = Σ_j a_j log(a_j / b_j)."""
    return total(lambda j: a(j) * sp.log(a(j) / b(j)))


def jacobian(i, j, of=p) -> sp.Expr:
    """Returns the entry δ_ij p_i − p_i p_j of the softmax's Jacobian, the Hessian of lse."""
    return delta(i, j) * of(i) - of(i) * of(j)
