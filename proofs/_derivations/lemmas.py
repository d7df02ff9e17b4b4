"""Derives lemmas of the fast code: sums relative to a maximum, and how they merge."""

from __future__ import annotations

import sympy as sp

from .decide import Assumption
from .derivation import Derivation, Step, chain, definition
from .notation import LABEL, LSE, SUM_EXP, I, Y, dot, jacobian, lse, sum_exp, v, z
from .terms import Index, K, delta, family, total, written

_m = sp.Symbol("m", real=True)
_R = Index("r", K)  # the class of the row's largest logit
_MAXIMUM = "m is any real number here; in the code it is the row's largest logit"


def _merge(a: tuple[sp.Expr, sp.Expr], b: tuple[sp.Expr, sp.Expr]) -> tuple[sp.Expr, sp.Expr]:
    """Returns the unevaluated merge of two partial sums of exponentials; (m, s) is s exp(m)."""
    m = sp.Max(a[0], b[0], evaluate=False)

    def rescaled(part: tuple[sp.Expr, sp.Expr]) -> sp.Expr:
        change = sp.Add(part[0], -m, evaluate=False)
        return written(part[1], sp.exp(change, evaluate=False))

    return m, sp.Add(rescaled(a), rescaled(b), evaluate=False)


_a, _b, _d = (
    (sp.Symbol(f"m_{n}", real=True), sp.Symbol(f"s_{n}", nonnegative=True)) for n in (1, 2, 3)
)
_merged = _merge(_a, _b)
_NOTHING = (-sp.oo, sp.Integer(0))
_MILAKOV = "Milakov and Gimelshein (2018), Online normalizer calculation for softmax"
_MERGE = "(m, s) stands for s exp(m). The merge takes the larger m, and rescales both s to it."


def _both_parts(name: str, title: str, conclusion: str, why: str, one, other) -> list[Derivation]:
    """Returns the derivations that two merges have the same maximum and the same sum."""
    return [
        chain(
            f"online_merge.{name}_{part}", f"{title}, {part}",
            conclusion,
            Step("one side", one[n], "definition"),
            Step("other side", other[n], why),
            source=_MILAKOV, about=_MERGE,
        )
        for n, part in enumerate(("maximum", "sum"))
    ]  # fmt: skip


def _hessian_products() -> tuple[Derivation, ...]:
    """Returns derivations of ``hessian_product``, which follow its code in xent_jax/_rows.py."""
    p = family("p", positive=True)
    r, q, w, u = (family(name) for name in "rqwu")
    top, a = Index("d", K), Index("i", K)
    one = Assumption("Σ_j p_j = 1", equation=(total(p), sp.Integer(1)))
    shipped = (w(a), v(a) - dot(r, v)), (u(a), q(a) * (w(a) - dot(q, w)))

    def product(name: str, title: str, about: str, r_a: sp.Expr, q_a: sp.Expr) -> Derivation:
        return chain(
            f"hessian_product.{name}", title,
            "(H v)_i = u_i − r_i Σ_j u_j, where H = diag(p) − p pᵀ",
            Step("textbook", total(lambda j: jacobian(I, j, p) * v(j)), "definition"),
            Step("by components", p(I) * (v(I) - dot(p, v)), "term i of a sum with δ_ij"),
            Step("as shipped", u(I) - r(I) * total(u), "Σ_j p_j = 1; both cases of i = d"),
            definitions=((r(a), r_a), (q(a), q_a), *shipped), assumptions=(one,),
            source="xent_jax/_rows.py, hessian_product: its r, rest (here q), w and u", about=about,
        )  # fmt: skip

    return (
        product("spread", "The Hessian product where no class has p > ½",
                "Both r and q are p.", p(a), p(a)),
        product("dominant", "The Hessian product where class d has p_d > ½",
                "All differences are between entries of v. The identity holds for any d; that p_d "
                "is above ½ matters to the rounding alone.",
                delta(top, a), (1 - delta(top, a)) * p(a)),
    )  # fmt: skip


_relative = sum_exp(-_m)
_others = sum_exp(-_m, but=Y)
_loss = -sp.log(sp.exp(z(Y)) / SUM_EXP)

DERIVATIONS = (
    chain(
        "relative_sum", "Log-sum-exp relative to any m",
        "lse = m + log Σ_j exp(z_j − m)",
        Step("relative", _m + sp.log(_relative), "definition"),
        Step("factor", _m + sp.log(sp.exp(-_m) * SUM_EXP), "exp(a + b) = exp(a) exp(b)"),
        Step("log-sum-exp", lse, "log of a product of positive numbers"),
        definitions=(LSE,), about=_MAXIMUM,
    ),
    chain(
        "log1p_of_the_others", "The sum without the largest term",
        "lse = z_r + log(1 + Σ_{j≠r} exp(z_j − z_r))",
        Step("log-sum-exp", lse, "definition"),
        Step("relative", z(_R) + sp.log(sum_exp(-z(_R))), "relative_sum with m = z_r"),
        Step("term r apart", z(_R) + sp.log(1 + sum_exp(-z(_R), but=_R)),
             "term r of a sum; exp(0) = 1"),
        definitions=(LSE,), assumptions=(Assumption("the largest logit z_r is one of them"),),
        about="log1p of a sum that never held the 1: right where S is next to 1.",
    ),
    chain(
        "label_log1p.below", "The loss where the label is not the largest",
        "−log p_y = (m − z_y) + log(1 + ((A − 1) + E_y))",
        definition(_loss),
        Step("relative", _m - z(Y) + sp.log(_relative), "relative_sum"),
        Step("as shipped", _m - z(Y) + sp.log(1 + ((_others - 1) + sp.exp(z(Y) - _m))),
             "term y of a sum: S = A + E_y"),
        assumptions=(LABEL,), about=f"E_j = exp(z_j − m), A = Σ_{{j≠y}} E_j. {_MAXIMUM}.",
    ),
    chain(
        "label_log1p.largest", "The loss where the label is the largest",
        "−log p_y = log(1 + A)",
        definition(_loss),
        Step("relative", _m - z(Y) + sp.log(_relative), "relative_sum"),
        Step("as shipped", _m - z(Y) + sp.log(1 + _others),
             "term y of a sum: S = A + E_y, E_y = exp(0)"),
        definitions=((_m, z(Y)),), assumptions=(LABEL, Assumption("m = z_y")),
    ),
    chain(
        "online_merge", "The online merge keeps the sum of exponentials",
        "s exp(m) = s₁ exp(m₁) + s₂ exp(m₂)",
        Step("merged", _merged[1] * sp.exp(_merged[0]), "definition"),
        Step("rescaled", _a[1] * sp.exp(_a[0] - _merged[0]) * sp.exp(_merged[0])
             + _b[1] * sp.exp(_b[0] - _merged[0]) * sp.exp(_merged[0]), "distributed"),
        Step("kept", _a[1] * sp.exp(_a[0]) + _b[1] * sp.exp(_b[0]), "exp(a − m) exp(m) = exp(a)"),
        source=_MILAKOV, about=_MERGE,
    ),
    *_both_parts("associative", "The merge is associative", "(a ⊕ b) ⊕ c = a ⊕ (b ⊕ c)",
                 "the maximum is associative; exp(a − m) exp(m − n) = exp(a − n)",
                 _merge(_merged, _d), _merge(_a, _merge(_b, _d))),
    *_both_parts("commutative", "The merge is commutative", "a ⊕ b = b ⊕ a",
                 "maximum and sum are symmetric", _merged, _merge(_b, _a)),
    *_both_parts("neutral", "(−∞, 0) is neutral", "(m, s) ⊕ (−∞, 0) = (m, s)",
                 "max(m, −∞) = m; 0 · exp(−∞) = 0", _merge(_a, _NOTHING), _a),
    *_hessian_products(),
)  # fmt: skip
