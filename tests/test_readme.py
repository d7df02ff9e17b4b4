"""The code and the names in the README and in CONTRIBUTING are right."""

import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest
from xent_jax.proofs._theorems.shipped import THEOREMS

import xent_jax

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.fast_compile
def test_the_code_runs():
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(compile(code, "README.md", "exec"), scope)
    assert scope["loss"] > 0
    np.testing.assert_allclose(jnp.sum(scope["gradient"], -1), 0, atol=1e-3)  # all but the z-loss
    assert jnp.all(scope["gradient"] != 0)
    assert scope["d_kernel"].shape == (64, 5000)
    assert scope["correct"].shape == scope["targets"].shape


def test_it_fits_in_two_screens():
    assert len(README.splitlines()) <= 150


def test_the_number_of_theorems():
    (fewest,) = re.findall(r"(?i)more than (\d+)\s+theorems", README)
    assert len(THEOREMS) > int(fewest)


def test_the_table_of_functions_names_public_ones():
    """The API pages name all functions, which test_docs_site.py checks."""
    (table,) = re.findall(r"(?:^\| .*`softmax`.*\n)(?:^\|.*\n)+", README, re.M)
    names = set(re.findall(r"`(\w+)`", table)) - {"axis_name", "batch_axis_name"}
    assert len(names) > 25 and names <= set(xent_jax.__all__)


MADE_UP = {"xent_jax/_name.py", "proofs/page.html"}  # an example, and built with the site
PAGES = ["README.md", "CONTRIBUTING.md", "docs/limits.md", "docs/examples.md", "docs/proofs.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_named_exists(page):
    text = (ROOT / page).read_text()
    linked = "" if page.startswith("docs/") else text  # the build of the site checks its links
    named = re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", linked)
    named += re.findall(r"`?((?:tests|benchmarks|examples|xent_jax|proofs)/[\w.]+\.\w+)", text)
    missing = [n for n in set(named) - MADE_UP if not (ROOT / n).exists()]
    assert named and not missing
