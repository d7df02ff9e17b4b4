"""The wheel has the right files, metadata and dependencies, and the docstrings are complete."""

import doctest
import email.parser
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import jax.numpy as jnp
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import xent_jax
from tests.cases import FUNCTIONS

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = {"xent_jax": "xent_jax", "proofs": "xent_jax/proofs"}  # folders here and in the wheel

# ------------------------------------------------------------------------------ the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Returns the path of a wheel built from a copy, because a build leaves files in its source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*SHIPPED, "tests", "examples", "benchmarks"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, source]
    # An isolated build downloads setuptools, which is not needed if a recent one is installed.
    if importlib.util.find_spec("setuptools"):
        if Version(importlib.metadata.version("setuptools")) >= Version("77"):
            command.append("--no-build-isolation")
    subprocess.run(command, check=True)
    (built,) = out.iterdir()
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    expected = {"xent_jax/py.typed"}
    for here, there in SHIPPED.items():
        sources = (ROOT / here).rglob("*.py")
        expected |= {f"{there}/{path.relative_to(ROOT / here).as_posix()}" for path in sources}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert "xent_jax/proofs/__init__.py" in names


def test_the_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = email.parser.Parser().parsestr(archive.read(path).decode())
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    assert metadata["Name"] == "xent-jax"
    assert metadata["Version"] == xent_jax.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    extras = {"examples", "test", "proofs", "bench", "docs", "dev"}
    assert set(metadata.get_all("Provides-Extra")) == extras
    required = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    assert {r.name for r in required if r.marker is None} == {"jax", "jaxtyping"}
    assert all(r.marker is None or "extra ==" in str(r.marker) for r in required)


def printed(command):
    """Returns what a command prints, read as JSON."""
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


USE = """
import importlib.util, json
import jax, jax.numpy as jnp, xent_jax

z, y = jnp.array([[0.5, -1.0, 2.0], [0.0, 3.0, 1.0]]), jnp.array([2, 0])
loss = lambda z: xent_jax.softmax_cross_entropy_with_integer_labels(z, y, reduction="mean")
closed = (jax.nn.softmax(z) - jax.nn.one_hot(y, 3)) / 2
assert jnp.allclose(jax.grad(loss)(z), closed, rtol=1e-6)
specs = map(importlib.util.find_spec, ["xent_jax", "xent_jax.proofs", "sympy", "optax"])
print(json.dumps([spec and spec.origin for spec in specs]))
"""


@pytest.mark.slow
def test_the_wheel_works_with_its_run_time_dependencies_alone(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    # Python imports only installed packages if it is called with -I.
    subprocess.run([python, "-I", "-m", "pip", "install", "-q", wheel], check=True)
    *ours, sympy, optax = printed([python, "-I", "-c", USE])
    assert sympy is None and optax is None
    for file, folder in zip(map(Path, ours), ("xent_jax", "proofs"), strict=True):
        assert file.is_file() and file.is_relative_to(tmp_path)
        assert file.parts[-2:] == (folder, "__init__.py")


def test_importing_the_library_imports_no_optional_dependency():
    optional = {"sympy", "optax", "matplotlib", "mpmath", "rich", "sklearn", "latex2mathml"}
    assert importlib.util.find_spec("sympy"), "install xent-jax[test]"
    code = "import json, sys, xent_jax; print(json.dumps(list(sys.modules)))"
    imported = set(printed([sys.executable, "-c", code]))
    assert "xent_jax" in imported and not imported & optional


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.findall(r"^version: (.+)$", text, re.MULTILINE) == [xent_jax.__version__]


# ------------------------------------------------------------------------- the docstrings

PUBLIC = [name for name in xent_jax.__all__ if inspect.isfunction(getattr(xent_jax, name))]
MODULES = [
    name
    for _, name, is_package in pkgutil.iter_modules(xent_jax.__path__, "xent_jax.")
    if not is_package
]


@pytest.mark.fast_compile
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"jnp": jnp}).failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_public_docstrings_are_complete(name):
    function = getattr(xent_jax, name)
    text = inspect.getdoc(function)
    for section in ("Args", "Returns", "Raises"):
        assert re.search(rf"^{section}:\s+\S", text, re.MULTILINE), section


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_of_what_has_a_gradient_say_which_and_where_from(name):
    text = inspect.getdoc(getattr(xent_jax, name))
    assert re.search(r"^Gradient:\s+\S", text, re.MULTILINE)
    assert re.search(r"\bProof:\s+``\w+``", text)
    assert re.search(r"\bSource:\s+\w", text)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_have_an_example_that_doctest_finds(name):
    function = getattr(xent_jax, name)
    module = importlib.import_module(function.__module__)
    assert module.__name__ in MODULES
    found = {test.name: test for test in doctest.DocTestFinder().find(module)}
    # The __name__ of an alias is that of its original, whose examples are found.
    assert found[f"{module.__name__}.{function.__name__}"].examples
