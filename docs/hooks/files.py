"""Adds to the site what docs/ does not hold: pictures, the page of proofs, what has no proof.

Pictures come from the folders in which benchmarks and examples draw them, and pages name them by
their place in the repository, so that they also show there. The page of proofs is made here, with
the derivations only, which takes seconds. For a page with all theorems, name a file that xent-prove
has written:

    xent-prove --html proofs.html && PROOFS_HTML=proofs.html mkdocs build
"""

import os
import re
from functools import cache
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PICTURES = ("benchmarks/*.png", "examples/*.png", "proofs/*.png")
_PICTURE = re.compile(r"\(\.\./((?:\.\./)*)(benchmarks|examples|proofs)/(\w+\.png)\)")


def on_files(files, config):
    """Adds the pictures and the page of proofs to the site's files."""
    for picture in sorted(p for pattern in PICTURES for p in ROOT.glob(pattern)):
        name = f"pictures/{picture.parent.name}-{picture.name}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    files.append(File.generated(config, "proofs/page.html", content=_proofs()))
    return files


def on_page_markdown(markdown, **_):
    """Inserts the table of what has no proof, and changes the paths of pictures to the site's."""
    if "<!-- unproved -->" in markdown:
        markdown = markdown.replace("<!-- unproved -->", _unproved())
    return _PICTURE.sub(r"(\1pictures/\2-\3)", markdown)


@cache  # mkdocs serve builds again at each change
def _proofs():
    """Returns the page that PROOFS_HTML names, or a page with the derivations."""
    from xent_jax.proofs._catalogue import claims
    from xent_jax.proofs._page.page import page

    if path := os.environ.get("PROOFS_HTML"):
        return Path(path).read_text("utf-8")
    results = [(claim, claim.run()) for claim in claims() if claim.engine == "derivation"]
    if failed := [claim.name for claim, answer in results if not answer.holds]:
        raise PluginError(f"these derivations do not hold: {', '.join(failed)}")
    return page(results)


def _unproved():
    from xent_jax.proofs._theorems.shipped import UNPROVED

    rows = [f"| `{u.function}` | {u.what} | {u.reason} |" for u in UNPROVED]
    return "\n".join(["| function | no theorem about | because |", "|---|---|---|", *rows])
