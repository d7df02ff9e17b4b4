"""Says what stands in the way of a proof, in words that a user can act on."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax

import xent_jax

from .._normal_form import Number, Poly, Refused
from .._normal_form.terms import monomial_key

_TERMS, _LENGTH = 4, 160  # the most monomials in a message, and characters of one
_SMALL = 1e-6
_NOT_THEIRS = (
    *(str(Path(str(module.__file__)).parent) for module in (jax, xent_jax)),
    str(Path(__file__).parents[1]),
)
_LONG = re.compile(r"\d+/\d{4,}|\d{7,}/\d+")
_INDEX = re.compile(r"\b(a\d+)<[\w*]+")
_NO_NUMBER = ("_DimExpr", "ymbolic dimension cannot")


def left_over(what: str, residual: Poly) -> str:
    """Returns a message with the largest terms of a difference that was not shown to be 0."""
    hint = ""
    if all(-_SMALL < c < _SMALL for c in residual.terms.values()):
        hint = f"; all that is left is below {_SMALL:g}: constants rounded?"
    return f"{what}: {few_terms(residual)} is left over{hint}"


def numbered(what: str, outs: Sequence[Any]) -> list[str]:
    """Returns a name for each output of a function: ``what``, numbered if there are several."""
    return [what if len(outs) == 1 else f"{what}, output {i}" for i in range(len(outs))]


def few_terms(p: Poly) -> str:
    """Returns the largest terms of a polynomial as text, and how many more it has."""
    every: list[tuple[Any, Any]] = list(p.terms.items())
    terms = sorted(every, key=lambda t: (-abs(t[1]), monomial_key(t[0])))
    shown = [_term(monomial_key(m), c) for m, c in terms[:_TERMS]] or ["0"]
    more = f" + {len(terms) - _TERMS} more terms" if len(terms) > _TERMS else ""
    return " + ".join(shown) + more


def refusal(error: Exception) -> str:
    """Returns why something was refused, with the line of the user's code if it raised an error."""
    text = _short_numbers(str(error))
    if any(words in text for words in _NO_NUMBER):
        text += (
            ". Sizes have no numbers here: take the root of one by jnp.sqrt(d), or give the "
            "size as a number in the spec, such as array('n 64')"
        )
    cause = error.__cause__
    if cause is None or isinstance(cause, Refused | RecursionError):
        return text
    theirs = [
        frame
        for frame in traceback.extract_tb(cause.__traceback__)
        if not frame.filename.startswith(_NOT_THEIRS) and not frame.filename.startswith("<")
    ]
    if not theirs:
        return text
    return f"{theirs[-1].filename}:{theirs[-1].lineno} ({theirs[-1].name}): {text}"


def _term(key: str, c: Number) -> str:
    text = _short_numbers(_INDEX.sub(r"\1", key))
    text = text if len(text) <= _LENGTH else text[:_LENGTH] + " ..."
    return _number(c) if not text else text if c == 1 else f"{_number(c)}*{text}"


def _short_numbers(text: str) -> str:
    return _LONG.sub(lambda m: _number(Fraction(m.group())), text)


def _number(c: Number) -> str:
    exact = str(c)
    return exact if len(exact) <= 6 else f"{float(c):.6g}"
