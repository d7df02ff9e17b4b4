"""The site is complete, its links lead somewhere, and it fetches nothing from elsewhere."""

import os
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("material", reason="the site needs mkdocs: pip install xent-jax[docs]")
pytest.importorskip("sympy", reason="the page of proofs needs SymPy: pip install xent-jax[docs]")

import xent_jax.proofs  # noqa: E402
from xent_jax.proofs._catalogue import claims  # noqa: E402
from xent_jax.proofs._page.page import page as page_of  # noqa: E402
from xent_jax.proofs._theorems.shipped import UNPROVED  # noqa: E402

import xent_jax  # noqa: E402
from benchmarks._store import load  # noqa: E402
from benchmarks._views import tables  # noqa: E402
from tests.cases import FUNCTIONS  # noqa: E402

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """The anchors of a page, its links, and the files that it fetches."""

    def __init__(self, text):
        super().__init__()
        self.text, self.ids, self.links, self.fetched = text, set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if given.get(FETCHED.get(tag)):
            self.fetched.append(given[FETCHED[tag]])


@pytest.fixture(scope="module")
def pages(site):
    """Returns the pages by their paths in the site."""
    folder, _ = site
    found = folder.rglob("*.html")
    return {str(path.relative_to(folder)): Page(path.read_text("utf-8")) for path in found}


def local(url):
    return not urlsplit(url).scheme and not urlsplit(url).netloc


def target(page, url):
    """Returns the path in the site that a link of a page leads to, and the anchor."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path).lstrip("/"))
    if not parts.path.startswith("/"):
        path = Path(page).parent / path if parts.path else Path(page)
    path = Path(os.path.normpath(path))
    return str(path if path.suffix else path / "index.html"), unquote(parts.fragment)


def test_the_strict_build_warns_of_nothing(site):
    _, said = site
    assert "Documentation built" in said and "WARNING" not in said


def test_every_link_leads_to_a_page_and_a_place_in_it(pages):
    links = [(page, url) for page, p in pages.items() for url in p.links if local(url)]
    assert len(links) > 500
    for page, url in links:
        path, anchor = target(page, url)
        assert path in pages or path.endswith(".png"), (page, url)
        assert not anchor or anchor in pages[path].ids, (page, url)


def test_all_that_pages_fetch_is_in_the_site(site, pages):
    folder, _ = site
    fetched = {(page, url) for page, p in pages.items() for url in p.fetched}
    assert any(url.endswith(".png") for _, url in fetched)
    for page, url in fetched:
        assert local(url), (page, url)
        assert (folder / target(page, url)[0]).exists(), (page, url)


def test_styles_fetch_nothing_from_afar(site):
    folder, _ = site
    styles = "".join(path.read_text("utf-8") for path in folder.rglob("*.css"))
    found = re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", styles)
    urls = [url or imported for url, imported in found]
    assert urls and all(local(url) or url.startswith("data:") for url in urls)


@pytest.mark.parametrize("module", [xent_jax, xent_jax.proofs], ids=lambda m: m.__name__)
def test_every_public_name_is_on_a_page_of_the_api(module, pages):
    prefix = "proofs." if module is xent_jax.proofs else "xent_jax."
    ids = set().union(*(p.ids for page, p in pages.items() if page.startswith("api/")))
    names = set(module.__all__) - {"DERIVATIONS"}  # a dictionary: the page of proofs shows it
    assert {prefix + name for name in names} <= ids


def test_each_gradient_stands_in_a_box_with_its_proof(pages):
    text = "".join(p.text for page, p in pages.items() if page.startswith("api/"))
    boxes = re.findall(r'<div class="admonition gradient">.*?</div>', text, re.S)
    proved = [re.search(r"proofs/page\.html#([\w.]+)", box) for box in boxes]
    # shard_linear_head and chunked_loss have the gradients of the losses that they are given.
    assert len(boxes) == len(FUNCTIONS) + 2 and all(proved)


def test_an_argument_that_shares_its_line_has_its_own(pages):
    """log_softmax has one line for two arguments: "where, axis_name: as for ..."."""
    text = pages["api/functions/index.html"].text
    after = text[text.index('id="xent_jax.log_softmax"') :]
    listed = re.findall(r"<li[^>]*>\s*<b><code>(.*?)</code></b>", after.replace("<wbr>", ""))
    assert listed[:4] == ["logits", "axis", "where", "axis_name"]


def test_mathematics_is_mathml(pages):
    texts = [p.text for page, p in pages.items() if page != "proofs/page.html"]
    assert "<mfrac>" in pages["index.html"].text
    assert not any(mark in text for text in texts for mark in ("arithmatex", r"\(", r"\["))


def test_the_site_has_the_page_that_xent_prove_writes(pages):
    claim = claims()[0]
    (article,) = re.findall(r"<article.*</article>", page_of([(claim, claim.run())]), re.S)
    assert article in pages["proofs/page.html"].text


def test_what_benchmarks_wrote_is_shown(pages):
    written = load()
    sources = "".join(path.read_text("utf-8") for path in DOCS.rglob("*.md"))
    shown = {Path(url).name for p in pages.values() for url in p.fetched}
    texts = [unescape(p.text) for page, p in pages.items() if page.startswith("measured/")]
    assert written
    for name, section in written.items():
        assert f'--8<-- "benchmarks/report.md:{name}"' in sources
        assert f"benchmarks-{name}.png" in shown or not section["picture"]
        # one page shows the question, all tables and the day of measurement
        assert any(
            f"Measured {section['date']}" in text
            and text.count("<table>") == len(tables(section["records"]))
            and section["question"] in text
            for text in texts
        ), name


def test_what_has_no_theorem_is_listed_with_its_reason(pages):
    plain = unescape(re.sub(r"<[^>]+>", "", pages["limits/index.html"].text))
    for u in UNPROVED:
        assert u.what in plain and u.reason in plain
