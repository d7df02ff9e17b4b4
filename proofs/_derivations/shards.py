"""Derives the losses of sharded classes from sums in each shard and sums over the shards.

There are S shards of C classes each. Class c of shard s is the class j = sC + c of all classes.
"""

from __future__ import annotations

import sympy as sp

from .derivation import Step, chain
from .notation import z
from .terms import Blocks, Index, delta, family, total

_S, _C, _B = sp.symbols("S C B", integer=True, positive=True)
_ALL = Blocks(_S, _C)
_m, _T = sp.symbols("m T", real=True)
_m_s, _sum, _held, _t, _loss = (family(name) for name in "mShtL")
_dz, _w = family("u"), family("W")
_SHARD, _PLACE, _q, _r = Index("s", _S), Index("c", _C), Index("q", _S), Index("r", _C)
_j = _SHARD * _C + _PLACE
_ABOUT = "m_s and m are any real numbers: in the code the largest logit of shard s, and of all."


def _over(body) -> sp.Expr:
    """Returns Σ_s ``body(s)``, the sum over the shards."""
    return total(body, over=_S, letter="s")


def _within(body) -> sp.Expr:
    """Returns Σ_c ``body(c)``, the sum over the classes of a shard."""
    return total(body, over=_C, letter="c")


def _by_shard(body) -> sp.Expr:
    """Returns Σ_s Σ_c ``body(s, c)``, the sum over the classes of all shards."""
    return _over(lambda s: _within(lambda c: body(s, c)))


def _e(s, c, shift) -> sp.Expr:
    return sp.exp(z(s * _C + c) - shift)


def _is_label(s, c) -> sp.Expr:
    return delta(_q, s) * delta(_r, c)


_every = total(lambda j: sp.exp(z(j) - _m), over=_ALL)
_whole = total(lambda j: sp.exp(z(j)), over=_ALL)
_split = _by_shard(lambda s, c: _e(s, c, _m))


def _rescaled(s) -> sp.Expr:
    """Returns the sum of shard s, which is relative to its own m_s, rescaled to the common m."""
    return _within(lambda c: _e(s, c, _m_s(s))) * sp.exp(_m_s(s) - _m)


DERIVATIONS = (
    chain(
        "shards", "Log-sum-exp of classes split over shards",
        "lse = m + log Σ_s exp(m_s − m) Σ_c exp(z_{sC+c} − m_s)",
        Step("all classes", sp.log(_whole), "definition"),
        Step("by shard", sp.log(_by_shard(lambda s, c: _e(s, c, 0))),
             "j = sC + c: division with remainder"),
        Step("relative", _m + sp.log(_over(_rescaled)), "relative_sum in each shard and over them"),
        about="S shards of C classes each, k = S C; m_s and m are any real numbers.",
    ),
    chain(
        "shards.sum", "The sum of exponentials, relative to the largest of the maxima",
        "Σ_s exp(m_s − m) S_s = Σ_s Σ_c exp(z_{sC+c} − m) = Σ_j exp(z_j − m)",
        Step("rescaled", _over(_rescaled), "S_s = Σ_c exp(z_{sC+c} − m_s)"),
        Step("as shipped", _split, "exp(a) exp(b) = exp(a + b)"),
        Step("all classes", _every, "j = sC + c: division with remainder"),
        about=_ABOUT,
    ),
    chain(
        "shards.excess", "The sum less 1, of which each shard leaves out the one that it holds",
        "Σ_s (S_s − h_s) + (Σ_s h_s − 1) = Σ_s S_s − 1",
        Step("as shipped",
             _over(lambda s: _held(s) * (_sum(s) - 1) + (1 - _held(s)) * _sum(s))
             + (_over(_held) - 1), "h_s is 1 in a shard that holds a one"),
        Step("less 1", _over(_sum) - 1, "sums are linear"),
        about="Where one shard holds a one alone, Σ_s h_s − 1 is 0, and no sum has held it.",
    ),
    chain(
        "shards.label", "The label's logit is in one shard",
        "Σ_s Σ_c [qC + r = sC + c] z_{sC+c} = z_{qC+r}",
        Step("as shipped", _by_shard(lambda s, c: _is_label(s, c) * z(s * _C + c)),
             "qC + r = sC + c where q = s and r = c: there is one remainder"),
        Step("one term", z(_q * _C + _r), "term (q, r) of a sum with δ_qs δ_rc"),
    ),
    chain(
        "shards.others", "The sum without the label's term",
        "A = S − E_y",
        Step("as shipped", _by_shard(lambda s, c: (1 - _is_label(s, c)) * _e(s, c, _m)),
             "zero at the label, in the shard that holds it"),
        Step("difference", _every - _e(_q, _r, _m), "term (q, r) of a sum; j = sC + c"),
    ),
    chain(
        "shards.gradient", "The gradient in a shard, from the merged sums",
        "T p_j − t_j = exp(z_j − m) T / S − t_j, j = sC + c",
        Step("closed form", _T * sp.exp(z(_j)) / _whole - _t(_j), "softmax_cross_entropy"),
        Step("relative", _T * _e(_SHARD, _PLACE, _m) / _every - _t(_j), "exp(−m) above and below"),
        Step("as shipped", _e(_SHARD, _PLACE, _m) * (_T / _split) - _t(_j), "shards.sum"),
        about=_ABOUT,
    ),
    chain(
        "shards.inputs", "The inputs' gradient is the sum of the shards' parts",
        "dx_r = Σ_j u_j W_rj = Σ_s Σ_c u_{sC+c} W_{r,sC+c}",
        Step("all classes", total(lambda i: _dz(i) * _w(i), over=_ALL), "dx = dz Wᵀ, one entry"),
        Step("by shard", _by_shard(lambda s, c: _dz(s * _C + c) * _w(s * _C + c)), "j = sC + c"),
        about="dW and db need no other shard: their columns are the shard's own.",
    ),
    chain(
        "shards.mean", "The mean over examples divided over B shards",
        "1/(BC) Σ_i L_i = Σ_b Σ_n L_{bC+n} / Σ_b C",
        Step("all examples", total(_loss, over=Blocks(_B, _C)) / (_B * _C), "definition"),
        Step("as shipped",
             total(lambda b: total(lambda n: _loss(b * _C + n), over=_C, letter="n"), over=_B,
                   letter="b") / total(lambda b: _C, over=_B),
             "i = bC + n; the number of examples is summed too"),
    ),
)  # fmt: skip
