"""The page of proofs is complete, and a browser shows it well in both colour schemes and widths."""

import re
from html import escape, unescape
from html.parser import HTMLParser

import pytest

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")
pytest.importorskip("rich", reason="the command needs rich: pip install xent-jax[proofs]")

import sympy as sp  # noqa: E402
from xent_jax.proofs._catalogue import Answer, claims  # noqa: E402
from xent_jax.proofs._page.backwards import backwards  # noqa: E402
from xent_jax.proofs._page.page import page  # noqa: E402
from xent_jax.proofs._prover.verdict import Verdict  # noqa: E402
from xent_jax.proofs._theorems.shipped import UNPROVED  # noqa: E402

from tests.browser import start_browser  # noqa: E402

THEOREMS = {c.name: c for c in claims() if c.engine == "all sizes"}
PLAIN = [n for n in THEOREMS if n.endswith(": gradient") and "(" not in n]
WIDTHS = {"phone": 390, "desk": 1280}


@pytest.fixture(scope="module")
def results():
    """All derivations, and the gradient's theorem of most functions without its options."""
    return [(c, c.run()) for c in claims() if c.engine == "derivation" or c.name in PLAIN]


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "proofs.html"
    path.write_text(page(results), "utf-8")
    return path


class Elements(HTMLParser):
    """What a page is made of."""

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
def elements(written):
    return Elements(written.read_text("utf-8"))


def test_the_page_needs_no_network_and_no_script(written, elements):
    assert "script" not in elements.tags and "link" not in elements.tags
    assert all(target.startswith("#") for target in elements.targets)
    assert "url(" not in written.read_text("utf-8")


def test_every_element_is_closed_and_every_link_leads_somewhere(elements):
    assert elements.open == []
    assert len(set(elements.ids)) == len(elements.ids)
    assert {target[1:] for target in elements.targets} <= set(elements.ids)


def test_every_step_is_a_formula(results, elements):
    steps = sum(len(a.detail) for c, a in results if c.engine == "derivation")
    assert elements.tags.count("math") >= steps + len(PLAIN)


def test_a_failure_is_shown_with_its_reason(results):
    claim, _ = results[0]
    wrong = [results[1]]
    failed = claim.run()
    outcome = type(failed.detail[1])(failed.detail[1].step, "not decided: <left over>", 0.0)
    failed = type(failed)(False, "left over", (), 0.0, (failed.detail[0], outcome))
    text = page([(claim, failed), *wrong])
    assert "not decided: &lt;left over&gt;" in text and "1 do not hold" in text


def test_the_shipped_backward_stands_beside_its_proof(written):
    text = written.read_text("utf-8")
    for source in ("def _backward(statistics", "def _focus_backward", "def _softcap_backward"):
        assert source in text


# ------------------------------------------------------------------------- theorems


def sections(text):
    """What stands of each theorem, by its name."""
    articles = re.findall(r'<article class="theorem".*?</article>', text, flags=re.DOTALL)
    named = {unescape(re.search(r"</span> (.*?)</h3>", a)[1]): a for a in articles}
    assert len(named) == len(articles)
    return named


@pytest.fixture(scope="module")
def theorems():
    """A section for each theorem, whose answer is made up: what is shown of it is asked."""
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
    assert "<math" in section and "<mi>proven</mi>" in section  # the identity
    assert "<li>assumed &lt;this&gt;</li>" in section
    (source,) = backwards()[claim.group]
    assert "def " in source.backward and escape(source.backward) in section
    assert f"As it ships, in {source.file}" in section


@pytest.mark.parametrize("name", THEOREMS)
def test_a_theorem_that_fails_has_its_mark_and_reason(name, theorems):
    _, failed = theorems
    assert '<span class="mark fails" role="img" aria-label="fails">✗</span>' in failed[name]
    assert "unknown: &lt;left over&gt;" in failed[name] and "holds" not in failed[name]


def test_a_theorem_shows_the_identity_and_assumptions_of_its_proof(results, written):
    shown = sections(written.read_text("utf-8"))
    proofs = {c.name: a for c, a in results if c.engine == "all sizes"}
    assert list(shown) == list(proofs) == PLAIN and len(PLAIN) >= 10
    for name, answer in proofs.items():
        assert '<div class="formula" tabindex="0"><math' in shown[name]
        assert all(f"<li>{escape(text)}</li>" in shown[name] for text in answer.assumptions)
    assert "<li>y is in [0, k)</li>" in shown["softmax_focal_loss: gradient"]


def test_the_page_says_plainly_what_is_not_covered(written):
    text = written.read_text("utf-8")
    (section,) = re.findall(r'<section id="not-covered">.*?</section>', text, flags=re.DOTALL)
    plain = " ".join(re.sub(r"<[^>]+>", "", section).split())
    assert "identity between real numbers. It says nothing of rounding, overflow, NaN" in plain
    assert "for the rank and the options it names, all sizes, and labels in range" in plain
    assert '<a href="#not-covered">What is not covered</a>' in text
    for u in UNPROVED:
        assert f"{u.function}, {u.what}: {u.reason}" in unescape(plain)


# ------------------------------------------------------------------------ the browser


@pytest.fixture(scope="module")
def browser():
    driver = start_browser()
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=WIDTHS)
def width(request):
    return WIDTHS[request.param]


@pytest.fixture(scope="module", params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(scope="module")
def shown(browser, written, width, scheme):
    """The browser, with the page in it."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(written.as_uri())
    return browser


def test_the_console_is_silent(shown):
    assert [m for m in shown.get_log("browser") if "favicon" not in m["message"]] == []


def test_all_mathematics_has_a_size(shown):
    sizes = shown.execute_script(
        "return [...document.querySelectorAll('math')]"
        ".map(m => m.getBoundingClientRect()).map(r => [r.width, r.height])"
    )
    assert sizes and all(w > 4 and h > 4 for w, h in sizes)


def test_mathematics_is_laid_out_as_such(shown):
    """A fraction's divisor stands below what it divides."""
    below = shown.execute_script(
        "return [...document.querySelectorAll('mfrac')].map(f => "
        "f.children[1].getBoundingClientRect().top >= "
        "f.children[0].getBoundingClientRect().bottom - 2)"
    )
    assert below and all(below)


def test_the_body_does_not_scroll_sideways(shown, width):
    assert shown.execute_script("return innerWidth") == width
    assert shown.execute_script("return document.documentElement.scrollWidth") <= width


def test_what_is_wide_scrolls_in_its_own_box(shown, width):
    wide = shown.execute_script(
        "return [...document.querySelectorAll('.formula')]"
        ".filter(f => f.scrollWidth > f.clientWidth)"
        ".map(f => getComputedStyle(f).overflowX)"
    )
    assert all(way == "auto" for way in wide)
    assert wide or width > 1000


def test_text_stands_out_from_its_ground(shown, scheme):
    """WCAG AA: a contrast of 4.5 or more, of the ink and of the remarks."""
    colours = shown.execute_script(
        "const at = (s, p) => getComputedStyle(document.querySelector(s))[p];"
        "return ['article h3', '.rule', '.conclusion', '.mark.holds', 'nav a']"
        ".map(s => [at(s, 'color'), at('article', 'backgroundColor')])"
    )
    for ink, ground in colours:
        light, dark = sorted((luminance(ground), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
        assert (luminance(ground) > luminance(ink)) == (scheme == "light")


def luminance(colour):
    """Relative luminance of an ``rgb(r, g, b)``."""
    channels = [int(c) / 255 for c in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
