"""What the site shows and docs/ does not hold: pictures, the page of proofs, what has no proof.

Pictures come from where benchmarks and examples draw them. The page of proofs is made here of the
derivations alone, in seconds. For one with all theorems name a file of xent-prove's:

    xent-prove --html proofs.html && PROOFS_HTML=proofs.html mkdocs build
"""

import os
from functools import cache
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PICTURES = ("benchmarks/*.png", "examples/*.png", "proofs/*.png")


def on_files(files, config):
    """Adds them to the site's files."""
    for picture in sorted(p for pattern in PICTURES for p in ROOT.glob(pattern)):
        name = f"pictures/{picture.parent.name}-{picture.name}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    files.append(File.generated(config, "proofs/page.html", content=_proofs()))
    return files


def on_page_markdown(markdown, **_):
    """Puts the table of what has no proof where a page asks for it."""
    return (
        markdown.replace("<!-- unproved -->", _unproved()) if "<!-- unproved" in markdown else None
    )


@cache  # mkdocs serve builds again at each change
def _proofs():
    """The page of PROOFS_HTML, or one of the derivations."""
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
    return "\n".join(["| of | no theorem about | because |", "|---|---|---|", *rows])
