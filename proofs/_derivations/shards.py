"""Sharded classes: the sums of each shard, and the sums over the shards.

S shards of C classes; class c of shard s is the class j = sC + c of all.
"""

from __future__ import annotations

import sympy as sp

from .derivation import Derivation, Step
from .notation import z
from .terms import Blocks, Index, delta, family, total

_S = sp.Symbol("S", integer=True, positive=True)
_C = sp.Symbol("C", integer=True, positive=True)
_ALL = Blocks(_S, _C)
_m = sp.Symbol("m", real=True)
_m_s, _sum, _held = family("m"), family("S"), family("h")
_SHARD, _PLACE, _q, _r = Index("s", _S), Index("c", _C), Index("q", _S), Index("r", _C)
_ABOUT = "m_s and m are any real numbers: in the code the largest logit of shard s, and of all."


def _within(body) -> sp.Expr:
    """Sums over the classes of a shard."""
    return total(body, over=_C, letter="c")


def _over(body) -> sp.Expr:
    """Sums over the shards."""
    return total(body, over=_S, letter="s")


def _e(s, c, shift) -> sp.Expr:
    return sp.exp(z(s * _C + c) - shift)


_every = total(lambda j: sp.exp(z(j) - _m), over=_ALL)
_split = _over(lambda s: _within(lambda c: _e(s, c, _m)))


def _of(name: str, title: str, conclusion: str, *steps: Step, about: str = "") -> Derivation:
    return Derivation(f"shards.{name}", title, conclusion, steps, about=about)


def _is_label(s, c) -> sp.Expr:
    return delta(_q, s) * delta(_r, c)


def _sums() -> tuple[Derivation, ...]:
    rescaled = _over(lambda s: sp.exp(_m_s(s) - _m) * _within(lambda c: _e(s, c, _m_s(s))))
    own = _e(_q, _r, _m)
    others = _over(lambda s: _within(lambda c: (1 - _is_label(s, c)) * _e(s, c, _m)))
    rest = _over(lambda s: _held(s) * (_sum(s) - 1) + (1 - _held(s)) * _sum(s))
    return (
        _of(
            "sum", "The sum of exponentials, relative to the largest of the maxima",
            "Σ_s exp(m_s − m) S_s = Σ_s Σ_c exp(z_{sC+c} − m) = Σ_j exp(z_j − m)",
            Step("rescaled", rescaled, "S_s = Σ_c exp(z_{sC+c} − m_s)"),
            Step("as shipped", _split, "exp(a) exp(b) = exp(a + b)"),
            Step("all classes", _every, "j = sC + c: division with remainder"),
            about=_ABOUT,
        ),
        _of(
            "excess", "The sum less 1, of which each shard leaves out the one that it holds",
            "Σ_s (S_s − h_s) + (Σ_s h_s − 1) = Σ_s S_s − 1",
            Step("as shipped", rest + (_over(_held) - 1), "h_s is 1 in a shard that holds a one"),
            Step("less 1", _over(_sum) - 1, "sums are linear"),
            about="Where one shard holds a one alone, Σ_s h_s − 1 is 0, and no sum has held it.",
        ),
        _of(
            "label", "The label's logit is in one shard",
            "Σ_s Σ_c [qC + r = sC + c] z_{sC+c} = z_{qC+r}",
            Step("as shipped",
                 _over(lambda s: _within(lambda c: _is_label(s, c) * z(s * _C + c))),
                 "qC + r = sC + c where q = s and r = c: there is one remainder"),
            Step("one term", z(_q * _C + _r), "term (q, r) of a sum with δ_qs δ_rc"),
        ),
        _of(
            "others", "The sum without the label's term", "A = S − E_y",
            Step("as shipped", others, "zero at the label, in the shard that holds it"),
            Step("difference", _every - own, "term (q, r) of a sum; j = sC + c"),
        ),
    )  # fmt: skip


def _gradients() -> tuple[Derivation, ...]:
    whole = total(lambda j: sp.exp(z(j)), over=_ALL)
    j = _SHARD * _C + _PLACE
    t, mass = family("t"), sp.Symbol("T", real=True)
    dz, w = family("u"), family("W")
    dims, loss = sp.Symbol("B", integer=True, positive=True), family("L")
    examples = Blocks(dims, _C)

    def by_batch(body) -> sp.Expr:
        return total(lambda b: total(lambda n: body(b, n), over=_C, letter="n"), over=dims,
                     letter="b")  # fmt: skip

    return (
        _of(
            "gradient", "The gradient in a shard, from the merged sums",
            "T p_j − t_j = exp(z_j − m) T / S − t_j, j = sC + c",
            Step("closed form", mass * sp.exp(z(j)) / whole - t(j), "softmax_cross_entropy"),
            Step("relative", mass * _e(_SHARD, _PLACE, _m) / _every - t(j),
                 "exp(−m) above and below"),
            Step("as shipped", _e(_SHARD, _PLACE, _m) * (mass / _split) - t(j), "shards.sum"),
            about=_ABOUT,
        ),
        _of(
            "inputs", "The inputs' gradient is the sum of the shards' parts",
            "dx_r = Σ_j u_j W_rj = Σ_s Σ_c u_{sC+c} W_{r,sC+c}",
            Step("all classes", total(lambda i: dz(i) * w(i), over=_ALL), "dx = dz Wᵀ, one entry"),
            Step("by shard",
                 _over(lambda s: _within(lambda c: dz(s * _C + c) * w(s * _C + c))),
                 "j = sC + c"),
            about="dW and db need no other shard: their columns are the shard's own.",
        ),
        Derivation(
            "shards.mean", "The mean over examples divided over B shards",
            "1/(BC) Σ_i L_i = Σ_b Σ_n L_{bC+n} / Σ_b C",
            (
                Step("all examples", total(loss, over=examples) / (dims * _C), "definition"),
                Step("as shipped",
                     by_batch(lambda b, n: loss(b * _C + n)) / total(lambda b: _C, over=dims),
                     "i = bC + n; the number of examples is summed too"),
            ),
        ),
    )  # fmt: skip


DERIVATIONS = (*_sums(), *_gradients())
