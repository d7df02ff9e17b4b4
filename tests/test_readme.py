"""What the README and CONTRIBUTING say runs, runs."""

import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest
from xent_jax.proofs._theorems.shipped import THEOREMS

import xent_jax

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_code_runs():
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(compile(code, "README.md", "exec"), scope)
    assert scope["verdict"].identity is not None
    assert scope["loss"] > 0
    np.testing.assert_allclose(jnp.sum(scope["gradient"], -1), 0, atol=1e-3)  # z-loss alone
    assert jnp.all(scope["gradient"] != 0)


def test_the_number_of_theorems():
    assert f"{len(THEOREMS)} theorems" in README


@pytest.mark.parametrize("name", sorted(set(xent_jax.__all__) - {"__version__"}))
def test_every_public_name_is_in_the_readme(name):
    assert f"`{name}`" in README or f"`xent_jax.{name}`" in README


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_file_named_exists(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"\]\(([\w./]+)\)", text)
    named += re.findall(r"`?((?:tests|benchmarks|examples|xent_jax|proofs)/[\w.]+\.\w+)", text)
    missing = [n for n in set(named) if not (ROOT / n).exists() and n != "xent_jax/_name.py"]
    assert named and not missing
