"""Converts formulas to MathML when the site is built, and lets long names break at underscores."""

import re
from html import unescape

from latex2mathml.converter import convert

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.S)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.S)
# Code in a line of text (blocks of code hold elements), and the headings of the API.
_NAME = re.compile(r'(<code>|doc-object-name[\w -]*">)([^<\n]+)(?=<)')


def on_page_content(html, **_):
    """Returns the page with the formulas as MathML, so that browsers need no script for them."""
    html = _INLINE.sub(lambda m: convert(unescape(m[1])), html)
    html = _BLOCK.sub(lambda m: f'<div class="formula">{_block(m[1])}</div>', html)
    return _NAME.sub(lambda m: m[1] + re.sub(r"(?<=[_(=.,])", "<wbr>", m[2]), html)


def _block(latex):
    return convert(unescape(latex).strip(), display="block")
