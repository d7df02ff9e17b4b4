"""A browser shows the site and the page of proofs well, on a phone and on a desk."""

import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("material", reason="the site needs mkdocs: pip install xent-jax[docs]")
pytest.importorskip("sympy", reason="the page of proofs needs SymPy: pip install xent-jax[docs]")

pytestmark = pytest.mark.slow

WIDTHS = {"phone": 390, "desk": 1280}
PROOFS = "the page of proofs"
LOOK = """
const all = query => [...document.querySelectorAll(query)];
const box = e => e.getBoundingClientRect();
const inBox = e =>
  e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || inBox(e.parentElement));
return {
  at: innerWidth,
  width: document.documentElement.scrollWidth,
  beyond: all('.md-content *, article *')
    .filter(e => box(e).right > document.documentElement.clientWidth + 1 && !inBox(e))
    .map(e => e.outerHTML.slice(0, 80)),
  scrolling: all('.formula').filter(e => e.scrollWidth > e.clientWidth).length,
  fetched: performance.getEntriesByType('resource').map(r => r.name),
  maths: all('math').map(m => Math.min(box(m).width, box(m).height)),
  fractions: all('mfrac').map(f => box(f.children[1]).top - box(f.children[0]).bottom),
}"""
COLOURS = """
const style = query => getComputedStyle(document.querySelector(query));
return ['article h3', '.rule', '.conclusion', '.mark.holds', 'nav a']
  .map(query => [style(query).color, style('article').backgroundColor])"""


@pytest.fixture(scope="module")
def browser():
    """Yields a driver of headless Chromium; without it the tests are skipped, or fail under CI."""
    missing = [tool for tool in ("chromium", "chromedriver") if shutil.which(tool) is None]
    try:
        from selenium import webdriver
    except ModuleNotFoundError:
        missing.append("selenium")
    if missing:
        # A contributor may lack a browser, but CI installs one.
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say(f"pages are not looked at without {', '.join(missing)}")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as driver:
        yield driver


class Quiet(SimpleHTTPRequestHandler):
    """A handler that does not print what it is asked for."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    """Yields the address of a server that serves the site."""
    handler = functools.partial(Quiet, directory=site[0])
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def urls(site, address, proofs_page):
    """Returns the addresses of all pages by name."""
    folder, _ = site
    names = [str(path.relative_to(folder)) for path in folder.rglob("index.html")]
    assert len(names) > 20
    found = {name: address + name.removesuffix("index.html") for name in sorted(names)}
    return found | {PROOFS: proofs_page.as_uri()}


@pytest.fixture(scope="module", params=WIDTHS)
def looks(request, browser, urls):
    """Returns what the browser reports about each page at one width of the window."""
    metrics = {"height": 900, "deviceScaleFactor": 1, "mobile": False}
    metrics["width"] = WIDTHS[request.param]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    found = {}
    for name, url in urls.items():
        browser.get(url)
        said = [m for m in browser.get_log("browser") if "favicon" not in m["message"]]
        found[name] = browser.execute_script(LOOK) | {"said": said}
        assert found[name]["at"] == metrics["width"]
    return found


def test_no_page_scrolls_sideways(looks):
    assert {name: look["width"] for name, look in looks.items() if look["width"] > look["at"]} == {}


def test_what_is_wide_scrolls_in_its_own_box(looks):
    assert {name: look["beyond"] for name, look in looks.items() if look["beyond"]} == {}
    assert looks[PROOFS]["scrolling"] or looks[PROOFS]["at"] > 1000


def test_the_console_is_silent(looks):
    assert {name: look["said"] for name, look in looks.items() if look["said"]} == {}


def test_nothing_comes_from_the_network(looks, address):
    fetched = {url for look in looks.values() for url in look["fetched"]}
    assert fetched and all(url.startswith((address, "data:")) for url in fetched)
    assert looks[PROOFS]["fetched"] == []


def test_mathematics_has_a_size(looks):
    sizes = [size for look in looks.values() for size in look["maths"]]
    assert len(sizes) > 500 and all(size > 4 for size in sizes)


def test_a_divisor_stands_below_what_it_divides(looks):
    gaps = [gap for look in looks.values() for gap in look["fractions"]]
    assert gaps and all(gap >= -2 for gap in gaps)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, urls, scheme):
    """WCAG AA asks for a contrast of at least 4.5 between a text and its background."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(urls[PROOFS])
    for ink, ground in browser.execute_script(COLOURS):
        dark, light = sorted((luminance(ground), luminance(ink)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
        assert (luminance(ground) > luminance(ink)) == (scheme == "light")


def luminance(colour):
    """Returns the relative luminance of an ``rgb(r, g, b)``."""
    channels = [int(c) / 255 for c in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_search_finds_a_name(browser, address):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(address + "?q=logit_softcap")
    results = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, ".md-search-result__link")
    )
    assert any("api/head/" in result.get_attribute("href") for result in results)
