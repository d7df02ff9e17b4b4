"""Derives the gradients of binary cross-entropy of logits, plain and focal."""

from __future__ import annotations

from functools import partial

import sympy as sp

from .decide import Assumption
from .derivation import Derivation, Step, chain, definition
from .focal import LIN, gamma
from .notation import eps
from .terms import Partial

x, t, a, w = sp.symbols("x t a w", real=True)
_u = sp.Symbol("u", positive=True)
up, down, wrong, loss = sp.symbols("s_+ s_- u L", real=True)

_SIGMOIDS = ((up, 1 / (1 + sp.exp(-x))), (down, 1 / (1 + sp.exp(x))))
_BINARY = -w * t * sp.log(up) - (1 - t) * sp.log(down)
_FOCAL = (
    *_SIGMOIDS,
    (loss, -t * sp.log(up) - (1 - t) * sp.log(down)),
    (wrong, t * down + (1 - t) * up),
)
_INSIDE = Assumption("0 < t < 1", unit=t)
_ABOUT = "s₊ = σ(x) and s₋ = σ(−x) = 1 − σ(x)."

_BCE, _SFL = "sigmoid_binary_cross_entropy", "sigmoid_focal_loss"
_smoothed = _BINARY.subs(t, (1 - eps) * t + eps / 2)
_plus = sp.log(1 + sp.exp(-x))
_focal_loss = wrong**gamma * loss
_slope = (1 - 2 * t) * up * down / wrong


def _focal(name: str, case: Assumption, *label: tuple[sp.Expr, sp.Expr]) -> Derivation:
    return chain(
        name, f"Binary focal loss, {case.text}",
        "∂(u^γ L)/∂x = u^γ (γ r L + s₊ − t)",
        definition(Partial(_focal_loss, x)),
        Step("product rule", gamma * wrong ** (gamma - 1) * Partial(wrong, x) * loss
             + wrong**gamma * Partial(loss, x), "product and power rule, u > 0"),
        Step("derivatives", gamma * wrong ** (gamma - 1) * (1 - 2 * t) * up * down * loss
             + wrong**gamma * ((1 - t) * up - t * down),
             "sigmoid; sigmoid_binary_cross_entropy with w = 1"),
        Step("log-slope", wrong**gamma * (gamma * _slope * loss + (1 - t) * up - t * down),
             "r = ∂ log u/∂x = (1 − 2t) s₊ s₋ / u"),
        Step("closed form", wrong**gamma * (gamma * _slope * loss + up - t), "s₊ + s₋ = 1"),
        definitions=(*_FOCAL, *label), assumptions=(case,), source=LIN,
        about=f"{_ABOUT} u = t s₋ + (1 − t) s₊ is the probability of the wrong class.",
    )  # fmt: skip


_chain = partial(chain, definitions=_SIGMOIDS)
_of_focal = partial(chain, definitions=_FOCAL, assumptions=(_INSIDE,))

DERIVATIONS = (
    _chain(
        "sigmoid", "The sigmoid's derivative, and its complement",
        "∂s₊/∂x = s₊ s₋",
        definition(Partial(up, x)),
        Step("quotient rule", sp.exp(-x) / (1 + sp.exp(-x)) ** 2, "quotient rule"),
        Step("complement", up * (1 - up), "algebra"),
        Step("closed form", up * down, "1 − σ(x) = σ(−x)"),
        about=_ABOUT,
    ),
    _chain(
        "softplus", "−log σ(−x) is softplus, whose derivative is the sigmoid",
        "∂/∂x log(1 + exp x) = s₊",
        definition(Partial(-sp.log(down), x)),
        Step("softplus", Partial(sp.log(1 + sp.exp(x)), x), "log(1/a) = −log a"),
        Step("closed form", up, "derivative of log"),
        about=_ABOUT,
    ),
    chain(
        "softplus.right", "Softplus as it is evaluated, x = u > 0",
        "log(1 + exp u) = u + log(1 + exp(−u))",
        definition(sp.log(1 + sp.exp(x))),
        Step("no overflow", _u + sp.log(1 + sp.exp(-_u)), "log of a product"),
        definitions=((x, _u),),
    ),
    chain(
        "softplus.left", "Softplus as it is evaluated, x = −u < 0",
        "log(1 + exp(−u))",
        definition(sp.log(1 + sp.exp(x))),
        Step("no overflow", sp.log(1 + sp.exp(-_u)), "x = -u"),
        definitions=((x, -_u),),
    ),
    _chain(
        "sigmoid_binary_cross_entropy", "Binary cross-entropy with pos_weight w",
        "∂L/∂x = (1 − t) s₊ − w t s₋",
        definition(Partial(_BINARY, x)),
        Step("softplus",
             Partial(w * t * sp.log(1 + sp.exp(-x)) + (1 - t) * sp.log(1 + sp.exp(x)), x),
             "−log σ(x) = log(1 + exp(−x))"),
        Step("derivative", w * t * -down + (1 - t) * up, "softplus, at x and −x"),
        Step("closed form", (1 - t) * up - w * t * down, "algebra"),
        source="Goodfellow et al. (2016), Deep Learning, section 6.2.2.2", about=_ABOUT,
    ),
    _chain(
        f"{_BCE}.labels", "The gradient to the label",
        "∂L/∂t = (w − 1) log(1 + exp(−x)) − x",
        definition(Partial(_BINARY, t)),
        Step("linear", -w * sp.log(up) + sp.log(down), "linear in t"),
        Step("closed form", (w - 1) * _plus - x, "log s₊ − log s₋ = x"),
    ),
    _chain(
        f"{_BCE}.pos_weight", "The gradient to pos_weight",
        "∂L/∂w = t log(1 + exp(−x))",
        definition(Partial(_BINARY, w)),
        Step("closed form", t * _plus, "linear in w"),
    ),
    _chain(
        f"{_BCE}.label_smoothing", "With smoothing the label is (1 − ε) t + ε/2",
        "∂L/∂x = (1 − t') s₊ − w t' s₋",
        definition(Partial(_smoothed, x)),
        Step("closed form",
             (1 - (1 - eps) * t - eps / 2) * up - w * ((1 - eps) * t + eps / 2) * down, _BCE),
    ),
    _chain(
        f"{_BCE}.second", "The second derivative",
        "∂²L/∂x² = (1 − t + w t) s₊ s₋",
        definition(Partial(Partial(_BINARY, x), x)),
        Step("once", Partial((1 - t) * up - w * t * down, x), _BCE),
        Step("closed form", (1 - t + w * t) * up * down, "sigmoid, at x and −x"),
    ),
    _focal(_SFL, _INSIDE),
    _focal(f"{_SFL}.label_0", Assumption("t = 0"), (t, sp.Integer(0))),
    _focal(f"{_SFL}.label_1", Assumption("t = 1"), (t, sp.Integer(1))),
    _of_focal(
        f"{_SFL}.labels", "Binary focal loss: the gradient to the label",
        "∂(u^γ L)/∂t = u^γ (γ L (s₋ − s₊)/u − x)",
        definition(Partial(_focal_loss, t)),
        Step("product rule", gamma * wrong ** (gamma - 1) * (down - up) * loss
             + wrong**gamma * (sp.log(down) - sp.log(up)), "linear in t; u > 0"),
        Step("closed form", wrong**gamma * (gamma * (down - up) / wrong * loss - x),
             "log s₊ − log s₋ = x"),
    ),
    _of_focal(
        f"{_SFL}.gamma", "Binary focal loss: the gradient to gamma",
        "∂(u^γ L)/∂γ = u^γ L log u",
        definition(Partial(_focal_loss, gamma)),
        Step("closed form", _focal_loss * sp.log(wrong), "derivative of a power"),
    ),
    _of_focal(
        f"{_SFL}.alpha", "Binary focal loss: the gradient to alpha",
        "∂/∂a = (2t − 1) u^γ L",
        definition(Partial((a * t + (1 - a) * (1 - t)) * _focal_loss, a)),
        Step("closed form", (2 * t - 1) * _focal_loss, "linear in a"),
    ),
)  # fmt: skip
