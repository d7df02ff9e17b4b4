"""Derives the gradients of the focal loss over classes."""

from __future__ import annotations

from functools import partial

import sympy as sp

from .derivation import Derivation, Step, chain, definition
from .notation import LABEL, SOFTMAX, TWO, I, Y, p, w, z
from .terms import Partial, delta

gamma = sp.Symbol("gamma", nonnegative=True)
_L, _u = sp.symbols("L u", real=True)
_DEFINITIONS = (*SOFTMAX, (_L, -sp.log(p(Y))), (_u, 1 - p(Y)))
_focal = w(Y) * _u**gamma * _L
LIN = "Lin et al. (2017), Focal Loss for Dense Object Detection"


def _through_the_loss() -> Derivation:
    """Returns the derivation of the derivative by the cross-entropy L, as a formula of L alone.

    A symbol r > 0 stands for 1/p_y − 1, so that L = log(1 + r) is positive.
    """
    r = sp.Symbol("r", positive=True)
    loss, u = sp.log(1 + r), 1 - sp.exp(-sp.log(1 + r))
    by_r = Partial(u**gamma * loss, r) / Partial(loss, r)
    closed = u**gamma * (1 + gamma * loss * sp.exp(-loss) / u)
    return chain(
        "softmax_focal_loss.through_the_loss",
        "Focal loss: the chain through the cross-entropy, as shipped",
        "∂(u^γ L)/∂L = u^γ (1 + γ L exp(−L)/u) with u = 1 − exp(−L)",
        Step("definition", by_r, "L = log(1 + r), r > 0: ∂/∂L = (∂/∂r) / (∂L/∂r)"),
        Step("closed form", closed, "power rule; ∂u/∂L = exp(−L)"),
        source=LIN,
    )  # fmt: skip


_hit = p(I) - delta(Y, I)
_chain = partial(chain, definitions=_DEFINITIONS, assumptions=(LABEL, TWO))

DERIVATIONS = (
    _chain(
        "softmax_focal_loss", "Focal loss with class weights",
        "∂L_f/∂z_i = w_y u^γ (1 + γ p_y L/u) (p_i − δ_yi)",
        definition(Partial(_focal, z(I))),
        Step("product rule", w(Y) * (_u**gamma * Partial(_L, z(I))
             + gamma * _u ** (gamma - 1) * _L * Partial(_u, z(I))),
             "product and power rule, u > 0"),
        Step("derivatives",
             w(Y) * (_u**gamma * _hit + gamma * _u ** (gamma - 1) * _L * p(Y) * _hit),
             "∂L/∂z = p − onehot(y); ∂u/∂z = p_y (p − onehot(y))"),
        Step("closed form", w(Y) * _u**gamma * (1 + gamma * p(Y) * _L / _u) * _hit, "algebra"),
        source=LIN,
        about="L = −log p_y is the cross-entropy, u = 1 − p_y.",
    ),
    _chain(
        "softmax_focal_loss.gamma", "Focal loss: the gradient to gamma",
        "∂L_f/∂γ = w_y u^γ L log u",
        definition(Partial(_focal, gamma)),
        Step("closed form", _focal * sp.log(_u), "derivative of a power, u > 0"),
    ),
    _chain(
        "softmax_focal_loss.class_weights", "Focal loss: the gradient to the class weights",
        "∂L_f/∂w_i = δ_yi u^γ L",
        definition(Partial(_focal, w(I))),
        Step("closed form", delta(Y, I) * _u**gamma * _L, "linear in w_y"),
    ),
    _through_the_loss(),
)  # fmt: skip
