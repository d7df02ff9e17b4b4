"""Mathematics in MathML, made when the site is built: a reader's browser needs no script."""

import re
from html import unescape

from latex2mathml.converter import convert

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.S)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.S)


def on_page_content(html, **_):
    """The page, with what pymdownx.arithmatex has marked turned into MathML."""
    html = _INLINE.sub(lambda m: convert(unescape(m[1])), html)
    return _BLOCK.sub(lambda m: f'<div class="formula">{_block(m[1])}</div>', html)


def _block(latex):
    return convert(unescape(latex).strip(), display="block")
