"""Prints expressions as MathML, by SymPy's LaTeX printer and latex2mathml.

SymPy would write z(i) for an entry and does not know ``Total``. The printer here writes entries
with subscripts, and bound indices by letters that are free.
"""

from __future__ import annotations

import re
from typing import Any

import sympy as sp
from latex2mathml.converter import convert
from sympy.core.function import AppliedUndef
from sympy.printing.latex import LatexPrinter, translate
from sympy.printing.precedence import PRECEDENCE

from .._derivations.terms import Partial, Total

_OPTIONS = {
    "label_smoothing": "epsilon", "z_loss": "c", "class_weights": "omega", "pos_weight": "w",
    "weights": "v", "where": "m", "bias": "b",
}  # fmt: skip
"""The letters of the library's arguments in formulas."""
_LETTERS = "jlnabdf"
_SUMS = (Total, sp.Sum)


def mathml(*sides: sp.Expr) -> str:
    """Returns an expression, or an equation of several, as a ``math`` element."""
    return convert(" = ".join(f"{{{latex(side)}}}" for side in sides), display="block")


def latex(e: sp.Expr) -> str:
    """Returns an expression as LaTeX."""
    e = _signs_outside(e)
    return str(_Printer(e).doprint(e))


def _signs_outside(e: Any) -> Any:
    """Moves the sign of a sum's terms in front of the sum."""
    args = tuple(_signs_outside(a) for a in e.args)
    if args != e.args:
        e = e.func(*args)
    if isinstance(e, Total) and e.body.is_Mul and e.body.as_coeff_Mul()[0] < 0:
        return -Total(-e.body, e.index, *e.others)
    return e


class _Printer(LatexPrinter):
    def __init__(self, e: sp.Expr):
        super().__init__({"order": "none", "mul_symbol": r" \, "})
        self.letters: dict[sp.Symbol, str] = {}
        self.taken = {s.name for s in e.free_symbols}

    def parenthesize(self, item: Any, level: int, *args: Any, **options: Any) -> str:
        """Encloses sums and derivatives too, whose precedence SymPy does not know."""
        if isinstance(item, Total | Partial):
            return rf"\left({self._print(item)}\right)"
        return str(super().parenthesize(item, level, *args, **options))

    def _needs_mul_brackets(self, expr: Any, first: bool = False, last: bool = False) -> bool:
        return expr.is_Add or (not last and isinstance(expr, _SUMS))

    def _as_ordered_terms(self, expr: Any, order: Any = None) -> list[Any]:
        # The body of a sum ends where the next term begins, so sums come last.
        return sorted(expr.args, key=lambda t: (t.has(*_SUMS), _negative(t), t.count_ops(), str(t)))

    def _print_Mul(self, expr: Any) -> str:
        if any(a.is_Mul for a in expr.args):  # a product that ``written`` made
            first, *rest = expr.args
            level = PRECEDENCE["Mul"]
            return r" \, ".join([self._print(first), *(self.parenthesize(a, level) for a in rest)])
        if not expr.is_Mul:
            return str(super()._print_Mul(expr))
        factors = sorted(expr.args, key=_rank)
        below = sp.Mul(*(f for f in factors if f.is_Pow and _negative(f.exp)))
        beside = Partial if below.has(*_SUMS) else Partial | Total | sp.Sum
        wide = [f for f in factors if isinstance(f, beside)]
        if wide and below != 1:  # they are written beside the fraction
            rest = sp.Mul(*(f for f in factors if f not in wide), evaluate=False)
            return rf"{self._print(rest)} \, {self._print(sp.Mul(*wide, evaluate=False))}"
        return str(super()._print_Mul(sp.Mul(*factors, evaluate=False)))

    def _print_Symbol(self, expr: Any, style: str = "plain") -> str:
        name = self.letters.get(expr, _axis(expr.name))
        if name.endswith("_dot"):
            return rf"\dot{{{_letter(name.removesuffix('_dot'))}}}"
        letter, mark, below = name.partition("_")
        if not mark or name in _OPTIONS:
            return _letter(name)
        return f"{letter}_{{{below}}}" if len(name) == 3 else rf"\text{{{name}}}"

    def _print_AppliedUndef(self, expr: Any, exp: str | None = None) -> str:
        name = expr.func.__name__
        if len(name) > 1:
            return str(self._print_Function(expr, exp))
        below = " ".join(map(self._print, expr.args))
        return f"{name}_{{{below}}}" + (f"^{{{exp}}}" if exp else "")

    def _print_log(self, expr: Any, exp: str | None = None) -> str:
        if exp is None and (expr.args[0].is_Atom or isinstance(expr.args[0], AppliedUndef)):
            return rf"\log \, {self._print(expr.args[0])}"
        return str(super()._print_log(expr, exp))

    def _print_Max(self, expr: Any, exp: str | None = None) -> str:
        inner = ", ".join(map(self._print, sorted(expr.args, key=str)))
        return rf"\text{{max}}\left({inner}\right)" + (f"^{{{exp}}}" if exp else "")

    def _print_Gap(self, expr: Any) -> str:
        x = expr.args[0]
        return rf"\left({self._print(x)} - 1 - {self._print(sp.log(x))}\right)"

    def _print_Total(self, expr: Any) -> str:
        before = self.taken
        letter = next(n for n in (expr.index.name, *_LETTERS) if n not in before)
        self.taken, self.letters[expr.index] = before | {letter}, letter
        others = "".join(rf" \neq {self._print(o)}" for o in expr.others)
        body = self._body(expr.body)
        self.taken = before
        return rf"\sum\limits_{{{letter}{others}}} {body}"

    def _print_Sum(self, expr: Any) -> str:
        limits = (map(self._print, limit) for limit in expr.limits)
        signs = (rf"\sum\limits_{{{i}={low}}}^{{{high}}}" for i, low, high in limits)
        return f"{' '.join(signs)} {self._body(expr.function)}"

    def _body(self, expr: Any) -> str:
        return rf"\left({self._print(expr)}\right)" if expr.is_Add else self._print(expr)

    def _print_Partial(self, expr: Any) -> str:
        body, by = self._print(expr.body), rf"\partial {self._print(expr.by)}"
        if isinstance(expr.body, sp.Symbol | AppliedUndef):
            return rf"\frac{{\partial {body}}}{{{by}}}"
        body = body if isinstance(expr.body, Partial) else rf"\left[{body}\right]"
        return rf"\frac{{\partial}}{{{by}}} {body}"

    def _print_Piecewise(self, expr: Any) -> str:
        """Writes the indicator of a condition as the condition in brackets."""
        return rf"\left[{self._print(expr.args[0][1])}\right]"


def _axis(name: str) -> str:
    """Returns the letter of the engine's index a0 or bound index j0; keeps any other name."""
    if not re.fullmatch(r"[aj]\d", name):
        return name
    number = int(name[1])
    return "ijh"[number % 3] if name[0] == "a" else "l" + "′" * number


def _letter(name: str) -> str:
    """Returns a Latin or Greek letter, or a longer name as text."""
    name = _OPTIONS.get(name, name)
    if len(name) == 1:
        return name
    greek = translate(name)
    return rf"\text{{{name}}}" if greek == name else greek.replace(r"\eps", r"\vareps")


def _negative(e: Any) -> bool:
    return bool(e.as_coeff_Mul()[0] < 0)


def _rank(e: Any) -> Any:
    """Returns a key that sorts factors: numbers, symbols, entries, powers, functions, sums."""
    base = e.base if e.is_Pow and e.exp.is_Number else e
    if base.is_Add and not base.has(AppliedUndef, sp.Indexed):
        return 1.5, False, str(e)
    kinds = (sp.Number, sp.Symbol, AppliedUndef | sp.Indexed, sp.exp | sp.Pow, sp.Add, sp.Function)
    order = next((n for n, kind in enumerate(kinds) if isinstance(base, kind)), len(kinds))
    return order, "_" in str(e), str(e)
