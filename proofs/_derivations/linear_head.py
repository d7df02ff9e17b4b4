"""Derives the linear head's gradients to inputs, kernel and bias, also chunk by chunk."""

from __future__ import annotations

import sympy as sp

from .decide import Assumption
from .derivation import Derivation, Step, chain, definition
from .notation import A, I
from .terms import Blocks, Index, Partial, delta, family, label_family, total

TOKENS, WIDTH = sp.symbols("n d", integer=True, positive=True)
N, D = Index("a", TOKENS), Index("r", WIDTH)  # a token, a feature of its input
_x, _W, _b, _g, _u = (family(name) for name in "xWbgu")
_z, _p, _y = family("z"), family("p"), label_family("y")
_LIGER = "Hsu et al. (2024), Liger Kernel, section 3.2"
_LABELS = Assumption("one label y_n in 0..k−1 for each of n tokens, n ≥ 1")


def _tokens(f) -> sp.Expr:
    return total(f, over=TOKENS, letter="n")


def _classes(f) -> sp.Expr:
    return total(f, letter="j")


_LOGITS = (_z(N, A), total(lambda d: _x(N, d) * _W(d, A), over=WIDTH, letter="d") + _b(A))
_SOFTMAX = (_p(N, A), sp.exp(_z(N, A)) / _classes(lambda j: sp.exp(_z(N, j))))
_PULLED = _tokens(lambda n: _classes(lambda j: _u(n, j) * _z(n, j)))
"""The sum of the logits times their cotangents u. Its derivative by an argument of the head is the
cotangent of that argument, because the logits are linear in each argument."""


def _product(name: str, what: str, conclusion: str, by: sp.Expr, closed: sp.Expr) -> Derivation:
    return chain(
        name, f"The linear head: the gradient to {what}, of any loss",
        conclusion,
        definition(Partial(_PULLED, by)),
        Step("closed form", closed, "z_nj = Σ_d x_nd W_dj + b_j is linear"),
        definitions=(_LOGITS,), source=_LIGER,
        about="u is the loss's gradient to the logits z, in any of the losses above.",
    )  # fmt: skip


def _loss(n) -> sp.Expr:
    return sp.log(_classes(lambda j: sp.exp(_z(n, j)))) - _z(n, _y(n))


def _term(n) -> sp.Expr:
    return _x(n, D) * _u(n, I)


_h = family("H")
_entropy = (_h(N), -_classes(lambda j: _p(N, j) * sp.log(_p(N, j))))
_chunks, _size = sp.symbols("M S", integer=True, positive=True)

DERIVATIONS = (
    _product("with_linear_head", "the kernel", "dW_rj = Σ_n x_nr u_nj", _W(D, I), _tokens(_term)),
    _product("with_linear_head.inputs", "the inputs", "dx_ar = Σ_j u_aj W_rj", _x(N, D),
             _classes(lambda j: _u(N, j) * _W(D, j))),
    _product("with_linear_head.bias", "the bias", "db_j = Σ_n u_nj", _b(I),
             _tokens(lambda n: _u(n, I))),
    chain(
        "linear_softmax_cross_entropy",
        "Cross-entropy of a linear layer: the gradient to its kernel",
        "∂/∂W_rj Σ_n g_n L_n = Σ_n x_nr g_n (p_nj − 1{y_n = j})",
        definition(Partial(_tokens(lambda n: _g(n) * _loss(n)), _W(D, I))),
        Step("closed form", _tokens(lambda n: _x(n, D) * _g(n) * (_p(n, I) - delta(_y(n), I))),
             "with_linear_head, with the gradient of the loss of logits for u"),
        definitions=(_SOFTMAX, _LOGITS), assumptions=(_LABELS,), source=_LIGER,
    ),
    chain(
        "linear_token_statistics",
        "Entropy of a linear layer's softmax: the gradient to its kernel",
        "∂/∂W_rj Σ_n g_n H_n = −Σ_n x_nr g_n p_nj (log p_nj + H_n)",
        definition(Partial(_tokens(lambda n: _g(n) * _h(n)), _W(D, I))),
        Step("closed form",
             -_tokens(lambda n: _x(n, D) * _g(n) * _p(n, I) * (sp.log(_p(n, I)) + _h(n))),
             "with_linear_head; Σ_j ∂p_nj/∂z_ni = 0"),
        definitions=(_entropy, _SOFTMAX, _LOGITS),
    ),
    chain(
        "with_linear_head.chunks", "The linear head: the kernel's gradient chunk by chunk",
        "dW_rj = Σ_m Σ_s x_(mS+s)r u_(mS+s)j",
        Step("all tokens", total(_term, over=Blocks(_chunks, _size), letter="n"), "definition"),
        Step("by chunk", total(
            lambda m: total(lambda s: _term(m * _size + s), over=_size, letter="s"),
            over=_chunks, letter="m"),
             "n = mS + s: division with remainder"),
        about="M chunks of S tokens each; where they overlap, u is 0 for what was met before.",
        source=_LIGER,
    ),
)  # fmt: skip
