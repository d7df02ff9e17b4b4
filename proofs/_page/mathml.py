"""Prints expressions as MathML, in the form in which they are written by hand.

SymPy's own printer writes z(i) for an entry and cannot know ``Total``; this one writes
subscripts, one fraction for a product, and bound indices by letters that are free.
"""

from __future__ import annotations

import re
from html import escape

import sympy as sp
from sympy.core.function import AppliedUndef

from .._derivations.terms import Blocks, Gap, Index, Partial, Total, subterms

_GREEK = {"gamma": "γ", "epsilon": "ε", "alpha": "α"}
_SUBSCRIPT = {"+": "+", "-": "−"}
_LETTERS = "jlnabdf"
_THIN = '<mspace width="0.17em"/>'


def mathml(e: sp.Expr, display: bool = True) -> str:
    """Returns a self-contained ``math`` element."""
    block = ' display="block"' if display else ""
    return f'<math{block} xmlns="http://www.w3.org/1998/Math/MathML">{_content(e)}</math>'


def relation(head: sp.Expr, sign: str, body: sp.Expr) -> str:
    """Returns ``head sign body`` as a ``math`` element within a line."""
    inner = _row(_content(head), _o(sign), _content(body))
    return f'<math displaystyle="true">{inner}</math>'


def _content(e: sp.Expr) -> str:
    e = _signs_outside(e)
    return _row(_Printer(e).of(e))


def _signs_outside(e: sp.Basic) -> sp.Basic:
    """Moves the sign of a sum's terms in front of the sum."""
    args = tuple(_signs_outside(a) for a in e.args)
    if args != e.args:
        e = e.func(*args)
    if isinstance(e, Total) and not isinstance(e.body, sp.Add) and _negative(e.body):
        return -Total(-e.body, e.index, *e.others)
    return e


def _row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def _i(text: str) -> str:
    return f"<mi>{escape(text)}</mi>"


def _o(text: str, **attributes: str) -> str:
    extra = "".join(f' {k}="{v}"' for k, v in attributes.items())
    return f"<mo{extra}>{escape(text)}</mo>"


def _dotted(name: str) -> str:
    """Returns the letter of a direction, ż."""
    return f'<mover accent="true">{_i(name)}{_o("˙")}</mover>'


def _axis(name: str) -> str:
    """Returns letters for the engine's indices a0, a1 and bound indices j0, j1."""
    if not re.fullmatch(r"[aj]\d", name):
        return name
    number = int(name[1])
    return "ijh"[number % 3] if name[0] == "a" else "l" + "′" * number


def _fenced(inner: str, left: str = "(", right: str = ")") -> str:
    return _row(_o(left), inner, _o(right))


def _applied(name: str, inner: str) -> str:
    return _row(_i(name), "<mo>&#x2061;</mo>", inner)


class _Printer:
    def __init__(self, e: sp.Expr):
        bound = {s.index for s in subterms(e) if isinstance(s, Total)}
        free = {s for s in subterms(e) if isinstance(s, sp.Symbol) and s not in bound}
        self.letters = {s: s.name for s in free if isinstance(s, Index)}
        self.taken = {s.name for s in free}

    def of(self, e: sp.Basic) -> str:
        """Returns any expression as the content of a row."""
        for kind, method in self.METHODS:
            if isinstance(e, kind):
                return method(self, e)
        raise TypeError(f"{e.func.__name__} is not printed")

    def inside(self, e: sp.Basic) -> str:
        """Returns it in parentheses if it is a sum, a product or negative."""
        loose = isinstance(e, sp.Add | sp.Mul | Total | sp.Sum | Partial) or e.is_negative
        return _fenced(self.of(e)) if loose else self.of(e)

    def symbol(self, e: sp.Symbol) -> str:
        """Returns a symbol by its letter; what follows an underscore is a subscript."""
        name, _, below = self.letters.get(e, e.name).partition("_")
        name = _axis(_GREEK.get(name, name))
        if not below:
            return _i(name)
        if below == "dot":
            return _dotted(name)
        sign = _o(_SUBSCRIPT[below]) if below in _SUBSCRIPT else f"<mn>{below}</mn>"
        return f"<msub>{_i(name)}{sign}</msub>"

    def number(self, e: sp.Number) -> str:
        if e.is_infinite:
            return (_o("−") if e < 0 else "") + _i("∞")
        if e.q != 1:
            return f"<mfrac><mn>{e.p}</mn><mn>{e.q}</mn></mfrac>"
        return f"<mn>{e.p}</mn>" if e >= 0 else f"{_o('−')}<mn>{-e.p}</mn>"

    def entry(self, e: sp.Expr) -> str:
        name = e.func.__name__
        below = _row(*(self.of(a) for a in e.args))
        return f"<msub>{_i(_GREEK.get(name, name))}{below}</msub>"

    def delta(self, e: sp.Expr) -> str:
        i, j = sorted((self.of(a) for a in e.args), key=len)
        return f"<msub>{_i('δ')}{_row(i, j)}</msub>"

    def add(self, e: sp.Add) -> str:
        # A sum's body ends where the next term begins, so sums come last.
        terms = sorted(
            e.args, key=lambda t: (t.has(Total, sp.Sum), _negative(t), t.count_ops(), str(t))
        )
        out = self.of(terms[0])
        for t in terms[1:]:
            out += _o("−") + self.of(-t) if _negative(t) else _o("+") + self.of(t)
        return out

    def mul(self, e: sp.Mul) -> str:
        if any(isinstance(a, sp.Mul) for a in e.args):  # made by ``written``
            return _THIN.join(self.inside(a) if n else self.of(a) for n, a in enumerate(e.args))
        coefficient, _ = e.as_coeff_Mul()
        sign = _o("−") if coefficient < 0 else ""
        above: list[sp.Expr] = []
        below: list[sp.Expr] = []
        for f in sp.Mul.make_args(-e if sign else e):
            under = isinstance(f, sp.Pow) and f.exp.is_Number and f.exp < 0
            (below if under else above).append(1 / f if under else f)
        if below and above and above[0].is_Rational and above[0].q != 1:
            below, above = [sp.Integer(above[0].q), *below], [sp.Integer(above[0].p), *above[1:]]
        if not below:
            return sign + self.product(above)
        big = [f for f in above if isinstance(f, Total | sp.Sum | Partial)]
        rest = [f for f in above if f not in big and f != 1]
        if (
            isinstance(sp.Mul(*big), Total | sp.Sum)
            and not rest
            and sp.Mul(*below).has(Total, sp.Sum)
        ):
            big, rest = rest, big
        fraction = f"<mfrac>{_row(self.product(rest))}{_row(self.product(below))}</mfrac>"
        return sign + fraction + (self.product(big) if big else "")

    def product(self, factors: list[sp.Expr]) -> str:
        if len(factors) < 2:
            return self.of(factors[0]) if factors else "<mn>1</mn>"
        factors = sorted(factors, key=lambda f: (_weight(f), "_" in str(f), str(f)))
        out = ""
        for n, f in enumerate(factors):
            loose = isinstance(f, sp.Add) or (
                isinstance(f, Total | sp.Sum) and n < len(factors) - 1
            )
            out += _THIN * (n > 0)
            out += _fenced(self.of(f)) if loose else self.of(f)
        return out

    def power(self, e: sp.Pow) -> str:
        if e.exp.is_Number and e.exp < 0:
            return f"<mfrac><mn>1</mn>{_row(self.of(1 / e))}</mfrac>"
        base, exponent = e.args
        if isinstance(base, sp.tanh | sp.cosh):
            head = f"<msup>{_i(base.func.__name__)}{self.of(exponent)}</msup>"
            return _row(head, "<mo>&#x2061;</mo>", self.argument(base.args[0]))
        inner = (
            self.of(base) if isinstance(base, sp.Symbol | AppliedUndef) else _fenced(self.of(base))
        )
        return f"<msup>{_row(inner)}{_row(self.of(exponent))}</msup>"

    def exponential(self, e: sp.exp) -> str:
        return f'<msup><mi mathvariant="normal">e</mi>{_row(self.of(e.args[0]))}</msup>'

    def function(self, e: sp.Function) -> str:
        (x,) = e.args
        space = _THIN if isinstance(x, sp.Symbol | AppliedUndef) else ""
        return _applied(e.func.__name__, space + self.argument(x))

    def argument(self, e: sp.Expr) -> str:
        bare = isinstance(e, sp.Symbol | AppliedUndef)
        return self.of(e) if bare else _fenced(self.of(e))

    def maximum(self, e: sp.Max) -> str:
        inner = _o(",").join(self.of(a) for a in sorted(e.args, key=sp.sstr))
        return _applied("max", _fenced(inner))

    def gap(self, e: Gap) -> str:
        (x,) = e.args
        first = self.inside(x) if isinstance(x, sp.Add) else self.of(x)
        return _fenced(f"{first}{_o('−')}<mn>1</mn>{_o('−')}{self.of(sp.log(x))}")

    def total(self, e: Total) -> str:
        before = self.taken
        letter = next(n for n in (e.index.name, *_LETTERS) if n not in before)
        self.taken, self.letters[e.index] = before | {letter}, letter
        under = _i(letter)
        if e.others:
            under = _row(under, _o("≠"), *(self.of(o) for o in e.others))
        sign = f"<munder>{_o('∑', movablelimits='false')}{under}</munder>"
        body = self.of(e.body)
        self.taken = before
        return sign + (_fenced(body) if isinstance(e.body, sp.Add) else _row(body))

    def partial(self, e: Partial) -> str:
        by = _row(_o("∂"), self.of(e.by))
        if isinstance(e.body, sp.Symbol | AppliedUndef):
            return f"<mfrac>{_row(_o('∂'), self.of(e.body))}{by}</mfrac>"
        inner = self.of(e.body)
        if isinstance(e.body, Partial):
            return f"<mfrac>{_o('∂')}{by}</mfrac>{inner}"
        return f"<mfrac>{_o('∂')}{by}</mfrac>{_fenced(inner, '[', ']')}"

    def summed(self, e: sp.Sum) -> str:
        limits = [self.of(lim[0]) for lim in e.limits]
        sign = f"<munder>{_o('∑', movablelimits='false')}{_row(*limits)}</munder>"
        inner = self.of(e.function)
        return sign + (_fenced(inner) if isinstance(e.function, sp.Add) else _row(inner))

    def indexed(self, e: sp.Indexed) -> str:
        below = _o(",").join(self.of(a) for a in e.indices)
        name, _, mark = str(e.base).partition("_")
        base = _dotted(name) if mark == "dot" else _i(_GREEK.get(str(e.base), str(e.base)))
        return f"<msub>{base}{_row(below)}</msub>"

    def indicator(self, e: sp.Piecewise) -> str:
        """Returns the indicator of a condition, which is 1 where it holds."""
        (_, condition), *_ = e.args
        return f"<msub><mn>1</mn>{_row(self.of(condition))}</msub>"

    def compared(self, e: sp.Rel) -> str:
        return self.of(e.lhs) + _o({"==": "=", ">": ">"}.get(e.rel_op, e.rel_op)) + self.of(e.rhs)

    def named(self, e: sp.Function) -> str:
        inner = _o(",").join(self.of(a) for a in e.args)
        return _applied(e.func.__name__, _fenced(inner))

    METHODS = (
        (sp.Symbol, symbol),
        (sp.Number, number),
        (Total, total),
        (Partial, partial),
        (Gap, gap),
        (sp.Sum, summed),
        (sp.Indexed, indexed),
        (sp.Piecewise, indicator),
        (sp.Rel, compared),
        (sp.Add, add),
        (sp.Mul, mul),
        (sp.exp, exponential),
        (sp.Pow, power),
        (sp.KroneckerDelta, delta),
        (sp.Max, maximum),
        (sp.log | sp.tanh | sp.cosh, function),
        (Blocks, named),
        (AppliedUndef, entry),
        (sp.Function, named),
    )


def _negative(e: sp.Expr) -> bool:
    return bool(e.as_coeff_Mul()[0] < 0)


def _weight(e: sp.Expr) -> int:
    """Returns the rank of a factor or term: numbers, symbols, entries, functions, then sums."""
    if isinstance(e, sp.Mul):
        return max(_weight(a) for a in e.args)
    if isinstance(e, sp.Pow):
        return max(3, _weight(e.base))
    if isinstance(e, sp.Add) and not e.has(AppliedUndef):
        return 1
    order = (sp.Number, sp.Symbol, AppliedUndef | sp.exp, sp.Pow, sp.Add, sp.KroneckerDelta)
    for n, kind in enumerate(order):
        if isinstance(e, kind):
            return n
    return 8 if isinstance(e, Partial) else 7 if isinstance(e, Total | sp.Sum) else 6
