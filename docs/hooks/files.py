"""Adds pictures, proofs and lists that docs/ does not contain to the site.

Pictures come from the folders in which benchmarks and examples draw them, and pages name them by
their place in the repository, so that they also show there. The page of proofs is made here, with
all derivations and the theorems of losses that have none, which takes seconds. For a page with all
theorems, name a file that xent-prove has written:

    xent-prove --html proofs.html && PROOFS_HTML=proofs.html mkdocs build
"""

import os
import re
from functools import cache
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

import xent_jax

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
    """Inserts the lists that the code contains, and changes paths of pictures to the site's."""
    for mark, made in (("<!-- unproved -->", _unproved), ("<!-- other losses -->", _other_losses)):
        if mark in markdown:
            markdown = markdown.replace(mark, made())
    return _PICTURE.sub(r"(\1pictures/\2-\3)", markdown)


@cache  # mkdocs serve builds again at each change
def _proofs():
    """Returns the page that PROOFS_HTML names, or one of the claims that are proved in seconds."""
    from xent_jax.proofs._catalogue import claims, proof_of
    from xent_jax.proofs._page.page import page
    from xent_jax.proofs._theorems.shipped import THEOREMS

    if path := os.environ.get("PROOFS_HTML"):
        return Path(path).read_text("utf-8")
    named = {proof_of(t.function).name for t in THEOREMS}
    shown = [c for c in claims() if c.engine == "derivation" or c.name in named]
    results = [(claim, claim.run()) for claim in shown]
    if failed := [claim.name for claim, answer in results if not answer.holds]:
        raise PluginError(f"these proofs do not hold: {', '.join(failed)}")
    return page(results)


def _unproved():
    from xent_jax.proofs._theorems.shipped import UNPROVED

    rows = [f"| `{u.function}` | {u.what} | {u.reason} |" for u in UNPROVED]
    return "\n".join(["| function | no theorem about | because |", "|---|---|---|", *rows])


def _other_losses():
    """Returns the entries of all public names that no page of the API has."""
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs/api").glob("*.md"))
    named = set(re.findall(r"^::: xent_jax\.(\w+)", pages, re.M))
    return "\n".join(f"::: xent_jax.{name}" for name in xent_jax.__all__ if name not in named)
