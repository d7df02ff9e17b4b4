"""The linear head: gradients to inputs, kernel and bias, and the tokens in chunks."""

from __future__ import annotations

import sympy as sp

from .decide import Assumption
from .derivation import Derivation, Step
from .notation import A, I
from .terms import Blocks, Index, Partial, delta, family, label_family, total

TOKENS, WIDTH = (sp.Symbol(name, integer=True, positive=True) for name in "nd")
N, D = Index("a", TOKENS), Index("r", WIDTH)  # a token, a place of its input
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
"""The logits' cotangents u times the logits: linear in each argument, so its derivative to one
is what the cotangents become there."""


def _product() -> tuple[Derivation, ...]:
    def one(name: str, what: str, conclusion: str, by: sp.Expr, closed: sp.Expr) -> Derivation:
        return Derivation(
            f"with_linear_head{name}",
            f"The linear head: the gradient to {what}, of any loss",
            conclusion,
            (
                Step("definition", Partial(_PULLED, by), "definition"),
                Step("closed form", closed, "z_nj = Σ_d x_nd W_dj + b_j is linear"),
            ),
            (_LOGITS,),
            source=_LIGER,
            about="u is the loss's gradient to the logits z, in any of the losses above.",
        )

    return (
        one("", "the kernel", "dW_rj = Σ_n x_nr u_nj", _W(D, I),
            _tokens(lambda n: _x(n, D) * _u(n, I))),
        one(".inputs", "the inputs", "dx_ar = Σ_j u_aj W_rj", _x(N, D),
            _classes(lambda j: _u(N, j) * _W(D, j))),
        one(".bias", "the bias", "db_j = Σ_n u_nj", _b(I), _tokens(lambda n: _u(n, I))),
    )  # fmt: skip


def _cross_entropy() -> tuple[Derivation, ...]:
    def lse(n) -> sp.Expr:
        return sp.log(_classes(lambda j: sp.exp(_z(n, j))))

    weighed = _tokens(lambda n: _g(n) * (lse(n) - _z(n, _y(n))))
    return (
        Derivation(
            "linear_softmax_cross_entropy",
            "Cross-entropy of a linear layer: the gradient to its kernel",
            "∂/∂W_rj Σ_n g_n L_n = Σ_n x_nr g_n (p_nj − 1{y_n = j})",
            (
                Step("definition", Partial(weighed, _W(D, I)), "definition"),
                Step("closed form", _tokens(
                    lambda n: _x(n, D) * _g(n) * (_p(n, I) - delta(_y(n), I))),
                    "with_linear_head, with the gradient of the loss of logits for u"),
            ),
            (_SOFTMAX, _LOGITS),
            (_LABELS,),
            source=_LIGER,
        ),
    )  # fmt: skip


def _entropy() -> tuple[Derivation, ...]:
    h = family("H")
    entropy = (h(N), -_classes(lambda j: _p(N, j) * sp.log(_p(N, j))))
    return (
        Derivation(
            "linear_token_statistics",
            "Entropy of a linear layer's softmax: the gradient to its kernel",
            "∂/∂W_rj Σ_n g_n H_n = −Σ_n x_nr g_n p_nj (log p_nj + H_n)",
            (
                Step("definition", Partial(_tokens(lambda n: _g(n) * h(n)), _W(D, I)),
                     "definition"),
                Step("closed form", -_tokens(
                    lambda n: _x(n, D) * _g(n) * _p(n, I) * (sp.log(_p(n, I)) + h(n))),
                    "with_linear_head; Σ_j ∂p_nj/∂z_ni = 0"),
            ),
            (entropy, _SOFTMAX, _LOGITS),
        ),
    )  # fmt: skip


def _chunks() -> tuple[Derivation, ...]:
    chunks, size = (sp.Symbol(name, integer=True, positive=True) for name in ("M", "S"))

    def term(n) -> sp.Expr:
        return _x(n, D) * _u(n, I)

    def of_chunk(m) -> sp.Expr:
        return total(lambda s: term(m * size + s), over=size, letter="s")

    return (
        Derivation(
            "with_linear_head.chunks",
            "The linear head: the kernel's gradient chunk by chunk",
            "dW_rj = Σ_m Σ_s x_(mS+s)r u_(mS+s)j",
            (
                Step("all tokens", total(term, over=Blocks(chunks, size), letter="n"),
                     "definition"),
                Step("by chunk", total(of_chunk, over=chunks, letter="m"),
                     "n = mS + s: division with remainder"),
            ),
            about="M chunks of S tokens each; where they overlap, u is 0 for what was met before.",
            source=_LIGER,
        ),
    )  # fmt: skip


DERIVATIONS = _product() + _cross_entropy() + _entropy() + _chunks()
