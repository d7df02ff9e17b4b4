"""Writes one self-contained page of everything that is proved, without network or scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Any

import jax
import sympy as sp

import xent_jax

from .._catalogue import DERIVATIONS, Answer, Claim
from .._derivations.derivation import Derivation, Outcome, Step
from .._theorems.shipped import UNPROVED
from .backwards import Source, backwards
from .formulas import mathml
from .style import STYLE

Results = Sequence[tuple[Claim, Answer]]

_NOT_COVERED = """
<p>Every statement here is an identity between real numbers. It says nothing of
<strong>rounding</strong>, <strong>overflow</strong>, <strong>NaN</strong> and infinities, nor of
what a compiler makes of the code. Those are the part of the numerical contract, which is
measured against 60-digit arithmetic by the tests and not proved.</p>
<p>A <em>derivation</em> is about formulas. A <em>theorem</em> is about the code as JAX traces it,
for the rank and the options it names, all sizes, and labels in range. Where the code compares
sizes, such as k with 1, it is traced and proved again at those. What it does only where a size is a
Python int, rather than a symbol, is not covered.</p>
<p>Trusted are the rules in <code>proofs/_normal_form/</code>; for derivations, how
<code>proofs/_derivations/decide.py</code> reads a formula, as SymPy simplifies it when it is
written; for theorems, how <code>proofs/_prover/</code> reads JAX’s operations.</p>
"""


_AXES = """<p class="key">What JAX computes from the code, in closed form: i counts the examples, j
the classes, l is summed over; g is the cotangent, a dot marks a direction, a mask is 1 or 0, and a
condition in brackets is 1 where it holds and 0 elsewhere. Options have letters: b bias, m
where, ε label_smoothing, c z_loss, v weights, ω class_weights, w pos_weight.</p>"""


def page(results: Results) -> str:
    """Returns the page, in HTML, of the claims and their answers."""
    sources = backwards()
    groups = [(g, list(rs)) for g, rs in groupby(results, lambda r: _group(r[0]))]
    sections = "".join(_section(g, rs, sources) for g, rs in groups)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>xent_jax: the proofs</title><style>{STYLE}</style></head>
<body><header><h1>The proofs of xent_jax</h1>{_summary(results)}</header>
<nav aria-label="Contents"><ol>{"".join(_entry(g, rs) for g, rs in groups)}
<li><a href="#not-covered">What is not covered</a></li></ol></nav>
<main>{sections}
<section id="not-covered"><h2>What is not covered</h2>{_NOT_COVERED}{_unproved()}</section></main>
<footer>xent_jax {xent_jax.__version__}, JAX {jax.__version__}, SymPy {sp.__version__}.
Written by <code>python -m xent_jax.proofs --html</code>.</footer></body></html>
"""


def _unproved() -> str:
    rows = "".join(
        f"<li><code>{u.function}</code>, {escape(u.what)}: {escape(u.reason)}.</li>"
        for u in UNPROVED
    )
    return f"<p>There is no theorem about these parts of the library:</p><ul>{rows}</ul>"


def _derived(claim: Claim) -> bool:
    return claim.engine == "derivation"


def _group(claim: Claim) -> str:
    return claim.group if _derived(claim) else f"Theorems about the code: {claim.engine}"


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())


def anchor(claim: Claim) -> str:
    """Returns the id of a claim's place on the page."""
    return claim.name if _derived(claim) else f"{_slug(claim.engine)}-{_slug(claim.name)}"


def _entry(group: str, results: Results) -> str:
    return f'<li><a href="#{_slug(group)}">{escape(group)}</a> <small>{len(results)}</small></li>'


def _summary(results: Results) -> str:
    steps = [len(a.detail) for c, a in results if _derived(c)]
    failed = [c for c, a in results if not a.holds]
    theorems = len(results) - len(steps)
    counted = f"{len(steps)} derivations in {sum(steps)} steps"
    counted += f" and {theorems} theorems about the shipped code" if theorems else ""
    if not failed:
        verdict = '<p class="verdict holds"><b>✓</b> All hold.</p>'
    else:
        names = ", ".join(f'<a href="#{anchor(c)}">{escape(c.name)}</a>' for c in failed)
        verdict = f'<p class="verdict fails"><b>✗</b> {len(failed)} do not hold: {names}</p>'
    return f"""<p class="lead">Softmax cross-entropy and related losses, from the textbook
definition to the gradient that the library computes: {counted}. A machine decides each step, for
every number of classes; “could not decide” counts as a failure.</p>{verdict}
<p class="key">Sums run over all k classes. z are logits, p probabilities, t targets; δ<sub>ij</sub>
is 1 where i = j and 0 elsewhere; lse is the logarithm of the sum of exponentials.</p>"""


def _section(group: str, results: Results, sources: dict[str, list[Source]]) -> str:
    derived = _derived(results[0][0])
    show, axes = (_derivation, "") if derived else (_theorem, _AXES)
    inner = "".join(show(c, a, sources.get(c.name if derived else c.group, [])) for c, a in results)
    return f'<section id="{_slug(group)}"><h2>{escape(group)}</h2>{axes}{inner}</section>'


_SUBSCRIPT = re.compile(
    r"((?<![A-Za-z_])[A-Za-zδΣ]|\))_(?:\{([^}]+)\}|([a-z0-9]{1,2})(?![A-Za-z0-9_]))"
)
_NAMED = re.compile(r"[a-z0-9]+(?:[_.][a-z0-9]+)+|logsumexp")


def _text(text: str) -> str:
    """Returns a remark in HTML, with subscripts, powers of γ and links to derivations."""

    def named(match: re.Match[str]) -> str:
        name = match[0]
        return f'<a href="#{name}">{name}</a>' if name in DERIVATIONS else name

    linked = _NAMED.sub(named, escape(text, quote=False)).replace("^γ", "<sup>γ</sup>")
    return _SUBSCRIPT.sub(lambda m: f"{m[1]}<sub>{m[2] or m[3]}</sub>", linked)


def _mark(holds: bool) -> str:
    word = "holds" if holds else "fails"
    return (
        f'<span class="mark {word}" role="img" aria-label="{word}">{"✓" if holds else "✗"}</span>'
    )


def _derivation(c: Claim, answer: Answer, sources: Iterable[Source]) -> str:
    d: Derivation = c.subject
    signs = "", *(s.relation for s in d.steps[1:])
    steps = zip(d.steps, answer.detail, signs, strict=True)
    about = f'<p class="about">{_text(d.about)}</p>' if d.about else ""
    source = f'<p class="source">Source: {_text(d.source)}</p>' if d.source else ""
    shipped = "".join(map(_source, sources))
    return f"""<article id="{d.name}"><h3>{_mark(answer.holds)} {_text(d.title)}</h3>
<p class="conclusion">{_text(d.conclusion)}</p>{about}{_context(d)}
<ol class="steps">{"".join(_step(*s) for s in steps)}</ol>{shipped}
<p class="name"><code>{d.name}</code></p>{source}</article>"""


def _source(source: Source, unfolded: bool = True) -> str:
    calls = f"<pre><code>{escape(source.calls)}</code></pre>"
    more = f"<details><summary>and what it calls</summary>{calls}</details>"
    return f"""<details{" open" * unfolded}><summary>As it ships, in {source.file}</summary>
<pre><code>{escape(source.backward)}</code></pre></details>{more if source.calls else ""}"""


def _context(d: Derivation) -> str:
    where = [f"<li>{mathml(head, body)}</li>" for head, body in d.definitions]
    given = [f"<li>{_text(a.text)}</li>" for a in d.assumptions]
    given += [f"<li>stated for {d.scope}</li>"]
    where_list = f"<div><h4>Where</h4><ul>{''.join(where)}</ul></div>" if where else ""
    return f"""<div class="context">{where_list}
<div><h4>Assumptions</h4><ul>{"".join(given)}</ul></div></div>"""


def _step(step: Step, outcome: Outcome, sign: str) -> str:
    why, place = _text(step.why), ""
    if outcome.reason:
        why += f' <b class="reason">{escape(outcome.reason)}</b>'
    if step.slack is not None:
        why += f' <span class="slack">the difference is {mathml(step.slack)}</span>'
    if step.place:
        place = f'<small class="place">{_text(step.place)}</small>'
    return f"""<li><span class="sign">{sign}</span>
{_formula(step.expr)}
<div class="rule">{_mark(outcome.holds)} <span>{why}</span>{place}</div></li>"""


def _theorem(c: Claim, a: Answer, sources: Iterable[Source]) -> str:
    given = "".join(f"<li>{escape(text)}</li>" for text in a.assumptions)
    reason = f'<p class="reason">{escape(a.reason)}</p>' if a.reason else ""
    shipped = "".join(_source(s, unfolded=False) for s in sources)
    return f"""<article class="theorem" id="{anchor(c)}">
<h3>{_mark(a.holds)} {escape(c.name)}</h3>
<p class="conclusion">{escape(c.statement)}; {escape(c.sizes)}</p>{reason}{_identity(a.detail)}
<div class="context"><div><h4>Assumptions</h4><ul class="inline">{given}</ul></div></div>
{shipped}</article>"""


def _identity(verdict: Any) -> str:
    """Returns the formula that was proved, in HTML, or nothing if the verdict has none."""
    identity = getattr(verdict, "identity", None)
    return "" if identity is None else _formula(identity)


def _formula(e: sp.Expr) -> str:
    return f'<div class="formula" tabindex="0">{mathml(e)}</div>'
