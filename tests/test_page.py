"""The page of proofs is complete, and its formulas look as one would write them by hand."""

import dataclasses
import re
from html import escape, unescape
from html.parser import HTMLParser

import pytest

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")
pytest.importorskip("rich", reason="the command needs rich: pip install xent-jax[proofs]")

import sympy as sp  # noqa: E402
from xent_jax.proofs._catalogue import Answer, claims  # noqa: E402
from xent_jax.proofs._derivations.terms import Index, K, Partial, family, total, written  # noqa: E402
from xent_jax.proofs._page.backwards import backwards  # noqa: E402
from xent_jax.proofs._page.formulas import latex, mathml  # noqa: E402
from xent_jax.proofs._page.page import page  # noqa: E402
from xent_jax.proofs._prover.verdict import Verdict  # noqa: E402
from xent_jax.proofs._theorems.shipped import UNPROVED  # noqa: E402

THEOREMS = {c.name: c for c in claims() if c.engine == "all sizes"}
PLAIN = [n for n in THEOREMS if n.endswith(": gradient") and "(" not in n]


class Elements(HTMLParser):
    """The tags, ids and link targets of a page, and the tags that are still open at its end."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.targets, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.targets += [v for k, v in attributes.items() if k in ("href", "src")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text(proofs_page):
    return proofs_page.read_text("utf-8")


@pytest.fixture(scope="module")
def elements(text):
    return Elements(text)


def test_the_page_needs_no_network_and_no_script(text, elements):
    assert "script" not in elements.tags and "link" not in elements.tags
    assert all(target.startswith("#") for target in elements.targets)
    assert "url(" not in text


def test_every_element_is_closed_and_every_link_leads_somewhere(elements):
    assert elements.open == []
    assert len(set(elements.ids)) == len(elements.ids)
    assert {target[1:] for target in elements.targets} <= set(elements.ids)


def test_every_step_is_a_formula(proved, elements):
    steps = sum(len(a.detail) for c, a in proved if c.engine == "derivation")
    assert elements.tags.count("math") >= steps + len(PLAIN)


def test_a_failure_is_shown_with_its_reason(proved):
    (claim, answer), right, *_ = proved
    first, second, *others = answer.detail
    second = dataclasses.replace(second, reason="not decided: <left over>")
    failed = Answer(False, "left over", (), 0.0, (first, second, *others))
    text = page([(claim, failed), right])
    assert "not decided: &lt;left over&gt;" in text and "1 do not hold" in text
    assert text.count('class="mark fails"') == 2  # at the derivation and at its step


def test_the_shipped_backward_stands_beside_its_proof(text):
    for source in ("def _backward(statistics", "def _focus_backward", "def _softcap_backward"):
        assert source in text


# ------------------------------------------------------------------------- theorems


def sections(text):
    """Returns the HTML of each theorem's section, keyed by the theorem's name."""
    articles = re.findall(r'<article class="theorem".*?</article>', text, flags=re.DOTALL)
    named = {unescape(re.search(r"</span> (.*?)</h3>", a)[1]): a for a in articles}
    assert len(named) == len(articles)
    return named


@pytest.fixture(scope="module")
def theorems():
    """Returns the sections of all theorems with a made-up proof, and with a made-up failure."""
    verdict = Verdict("proved", identity=sp.Symbol("proven", real=True) ** 7)
    proved = Answer(True, "", ("assumed <this>",), 0.0, verdict)
    failed = Answer(False, "unknown: <left over>", (), 0.0, Verdict("unknown"))
    every = THEOREMS.values()
    return [sections(page([(c, answer) for c in every])) for answer in (proved, failed)]


def test_each_theorem_has_its_section(theorems):
    for sections in theorems:
        assert list(sections) == list(THEOREMS)


@pytest.mark.parametrize("name", THEOREMS)
def test_a_theorem_states_what_is_proved_of_which_code(name, theorems):
    proved, _ = theorems
    claim, section = THEOREMS[name], proved[name]
    assert f"{escape(claim.statement)}; {escape(claim.sizes)}" in section
    assert '<span class="mark holds" role="img" aria-label="holds">✓</span>' in section
    assert "<math" in section and "<mtext>proven</mtext>" in section  # the identity
    assert "<li>assumed &lt;this&gt;</li>" in section
    (source,) = backwards()[claim.group]
    assert "def " in source.backward and escape(source.backward) in section
    assert f"As it ships, in {source.file}" in section


@pytest.mark.parametrize("name", THEOREMS)
def test_a_theorem_that_fails_has_its_mark_and_reason(name, theorems):
    _, failed = theorems
    assert '<span class="mark fails" role="img" aria-label="fails">✗</span>' in failed[name]
    assert "unknown: &lt;left over&gt;" in failed[name] and "holds" not in failed[name]


def test_a_theorem_shows_the_identity_and_assumptions_of_its_proof(proved, text):
    shown = sections(text)
    proofs = {c.name: a for c, a in proved if c.engine == "all sizes"}
    assert list(shown) == list(proofs) == PLAIN and len(PLAIN) >= 10
    for name, answer in proofs.items():
        assert '<div class="formula" tabindex="0"><math' in shown[name]
        assert all(f"<li>{escape(text)}</li>" in shown[name] for text in answer.assumptions)
    assert "<li>y is in [0, k)</li>" in shown["softmax_focal_loss: gradient"]


def test_the_page_says_plainly_what_is_not_covered(text):
    (section,) = re.findall(r'<section id="not-covered">.*?</section>', text, flags=re.DOTALL)
    plain = " ".join(re.sub(r"<[^>]+>", "", section).split())
    assert "identity between real numbers. It says nothing of rounding, overflow, NaN" in plain
    assert "for the rank and the options it names, all sizes, and labels in range" in plain
    assert '<a href="#not-covered">What is not covered</a>' in text
    for u in UNPROVED:
        assert f"{u.function}, {u.what}: {u.reason}" in unescape(plain)


# ------------------------------------------------------------------------- formulas

Z, P = family("z"), family("p")
I, J = Index("i", K), Index("j", K)
EXP = total(lambda j: sp.exp(Z(j)))
A0, J0, J1, EPS, LSE = sp.symbols("a0 j0 j1 epsilon lse", real=True)
X, X_DOT = sp.IndexedBase("x", real=True), sp.IndexedBase("x_dot", real=True)
SUM = sp.Sum(X[A0, J0], (J0, 0, K - 1))
FORMULAS = {
    r"\frac{e^{z_{i}}}{\sum\limits_{j} e^{z_{j}}}": sp.exp(Z(I)) / EXP,
    r"- \sum\limits_{j} p_{j} \, \log \, p_{j}": total(lambda j: -P(j) * sp.log(P(j))),
    r"\sum\limits_{l} e^{z_{j} + z_{l}}": total(lambda j: sp.exp(Z(j) + Z(J))),
    r"\sum\limits_{j \neq i} z_{j}": total(Z, but=I),
    r"\frac{1}{k} \, \sum\limits_{j} z_{j}": total(Z) / K,
    r"\left(\sum\limits_{j} z_{j}\right)^{2}": total(Z) ** 2,
    r"\left(\sum\limits_{j} e^{z_{j}}\right) \, \sum\limits_{j} z_{j}": EXP * total(Z),
    r"p_{i} \, \left(1 - p_{i}\right)": P(I) * (1 - P(I)),
    r"- \frac{z_{i}}{p_{i}} \, p_{i} \, \left(1 - p_{i}\right)": written(
        -Z(I) / P(I), P(I), 1 - P(I)
    ),
    r"\frac{\partial p_{i}}{\partial z_{j}}": Partial(P(I), Z(J)),
    r"\frac{\partial}{\partial z_{j}} \left[\text{lse}^{2}\right]": Partial(LSE**2, Z(J)),
    r"\varepsilon \, \delta_{i j}": EPS * sp.KroneckerDelta(I, J),
    r"{x}_{i,l} \, \sum\limits_{l=0}^{k - 1} {x}_{i,l}": X[A0, J0] * SUM,
    r"{\dot{x}}_{i,\text{l′}}": X_DOT[A0, J1],
    r"\left[{x}_{i,l} > 0\right]": sp.Piecewise((1, X[A0, J0] > 0), (0, True)),
    r"\text{y_kept}": sp.Symbol("y_kept"),
    r"\varepsilon + \dot{\varepsilon}": sp.Symbol("label_smoothing")
    + sp.Symbol("label_smoothing_dot"),
    r"s_{+}": sp.Symbol("s_+"),
}


@pytest.mark.parametrize("wanted", FORMULAS)
def test_a_formula_reads_as_it_is_written_by_hand(wanted):
    assert latex(FORMULAS[wanted]) == wanted


def test_a_definition_is_an_equation():
    text = mathml(LSE, sp.log(EXP))
    assert "<mtext>lse</mtext>" in text and "<mo>&#x0003D;</mo>" in text and "<munder>" in text
