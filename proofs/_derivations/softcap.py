"""Derives the first and second derivatives of the soft cap of logits."""

from __future__ import annotations

from functools import partial

import sympy as sp

from .derivation import Step, chain, definition
from .terms import Partial

_z = sp.Symbol("z", real=True)
_c = sp.Symbol("c", positive=True)
_x, _q = sp.symbols("x q", real=True)
_chain = partial(chain, definitions=((_x, _z / _c), (_q, sp.exp(-2 * _z / _c))))
_capped = _c * sp.tanh(_z / _c)
_GEMMA = "Gemma Team (2024), Gemma 2, section 2"

DERIVATIONS = (
    _chain(
        "softcap", "Soft cap",
        "∂/∂z c tanh(z/c) = 1/cosh²(z/c)",
        definition(Partial(_capped, _z)),
        Step("derivative", 1 - sp.tanh(_x) ** 2, "chain rule, x = z/c"),
        Step("closed form", 1 / sp.cosh(_x) ** 2, "cosh² − sinh² = 1"),
        Step("as shipped", 4 * _q / (1 + _q) ** 2,
             "q = exp(−2x); the formula is even in x, so |x| serves as well"),
        source=_GEMMA,
    ),
    chain(
        "softcap.even", "Soft cap: the shipped slope is even in x",
        "4 q/(1 + q)² is the same at x and −x",
        Step("at x", 4 * sp.exp(-2 * _x) / (1 + sp.exp(-2 * _x)) ** 2, "definition"),
        Step("at −x", 4 * sp.exp(2 * _x) / (1 + sp.exp(2 * _x)) ** 2, "multiplied out by exp(4x)"),
    ),
    _chain(
        "softcap.cap", "Soft cap: the gradient to the cap",
        "∂/∂c c tanh(z/c) = tanh x − x / cosh² x",
        definition(Partial(_capped, _c)),
        Step("product rule", sp.tanh(_x) + _c * (1 - sp.tanh(_x) ** 2) * (-_z / _c**2),
             "product and chain rule"),
        Step("closed form", sp.tanh(_x) - _x / sp.cosh(_x) ** 2, "x = z/c"),
        source=_GEMMA,
    ),
    _chain(
        "softcap.second", "Soft cap: the second derivative",
        "∂²/∂z² = −2 tanh x / (c cosh² x)",
        definition(Partial(Partial(_capped, _z), _z)),
        Step("once", Partial(1 / sp.cosh(_z / _c) ** 2, _z), "softcap"),
        Step("closed form", -2 * sp.tanh(_x) / (_c * sp.cosh(_x) ** 2), "chain rule"),
    ),
)  # fmt: skip
