"""Defines the version matrix: ``nox`` runs all of it, and ``nox -t light`` a short form.

A session is one Python with one JAX; ``nox -l`` lists them. A pair is left out only if that JAX has
no release for that Python: the newest JAX needs Python 3.12. ``nox -s release`` builds the files to
upload, and tests them.
"""

import shutil
import tarfile
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"

JAX = {"0.6": "jax==0.6.0", "0.8": "jax==0.8.*", "0.10": "jax==0.10.*", "newest": "jax"}
OLDEST_PYTHON = {"newest": (3, 12)}
CELLS = [
    nox.param(python, name, id=f"{python}-{name}")
    for python in ("3.11", "3.12", "3.13")
    for name in JAX
    if tuple(map(int, python.split("."))) >= OLDEST_PYTHON.get(name, (3, 11))
]
LIBRARY = [
    "contract", "head", "head_contract", "sharded_head", "sharded_head_of_any_loss",
    "sharded_splits", "sharded_losses", "accuracy", "errors", "edges",
]  # fmt: skip
PROVER = [
    "versions", "prover_verdicts", "prover_values", "prover_sums", "prover_refusals",
    "prover_scan", "prover_products", "prover_translation",
]  # fmt: skip
TOOLS = ["hypothesis", "optax", "psutil", "pytest", "pytest-xdist", "python-flint"]
"""The packages of the test extra that these tests import."""
cells = nox.parametrize("python,version", CELLS)
USE = """
import jax, jax.numpy as jnp, xent_jax
z, y = jnp.array([[0.5, -1.0, 2.0], [0.0, 3.0, 1.0]]), jnp.array([2, 0])
loss = lambda z: xent_jax.softmax_cross_entropy_with_integer_labels(z, y, reduction="mean")
value, gradient = jax.value_and_grad(loss)(z)
closed = (jax.nn.softmax(z) - jax.nn.one_hot(y, 3)) / 2
assert jnp.allclose(gradient, closed, rtol=1e-6), gradient
print(xent_jax.__version__, xent_jax.__file__, value, gradient, sep="\\n")
"""


def _install(session: nox.Session, version: str) -> None:
    """Installs the package with this JAX."""
    session.install("--upgrade", "-e", ".[proofs]", JAX[version], *TOOLS)
    session.run("python", "-c", "import jax; print('jax', jax.__version__)")


def _pytest(session: nox.Session, names: list[str], *options: str, python: str = "python") -> None:
    files = [f"tests/test_{n}.py" for n in names]
    session.run(python, "-m", "pytest", *files, *options, external=python != "python")


@nox.session(tags=["matrix"])
@cells
def matrix(session: nox.Session, version: str) -> None:
    """Runs the library's contract and the prover, with all theorems."""
    _install(session, version)
    _pytest(session, LIBRARY + PROVER, "-m", "", *session.posargs)


@nox.session(tags=["light"], default=False)
@cells
def light(session: nox.Session, version: str) -> None:
    """Tests value and gradient of each function, the messages, and the prover's rules."""
    _install(session, version)
    files = ["contract", "errors", "versions"]
    _pytest(session, files, "-k", "test_value_and_gradient or test_errors or test_versions")


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Builds dist/, checks it, and uses each file in an empty environment."""
    dist = Path("dist")
    for old in (Path("build"), dist):  # files that were deleted since would be packed again
        shutil.rmtree(old, ignore_errors=True)
    session.install("build", "twine")
    session.run("python", "-m", "build")
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    for file in (wheel, sdist):
        python = _empty(session, file.suffix)
        session.run(python, "-I", "-m", "pip", "install", "-q", str(file), external=True)
        session.run(python, "-I", "-c", USE, external=True)
    _own_tests(session, python, sdist)


def _empty(session: nox.Session, name: str) -> str:
    """Makes a new environment, and returns the path of its Python."""
    folder = Path(session.create_tmp()).absolute() / f"empty{name}"
    session.run("python", "-m", "venv", "--clear", str(folder))
    return str(folder / "bin" / "python")


def _own_tests(session: nox.Session, python: str, sdist: Path) -> None:
    """Runs the sdist's tests on the package that was installed from it, without its sources."""
    tools = [f"xent-jax[proofs] @ {sdist.resolve().as_uri()}", *TOOLS]
    session.run(python, "-I", "-m", "pip", "install", "-q", *tools, external=True)
    root = Path(session.create_tmp()).absolute() / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(root, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(root.parent, filter="data")
    for sources in ("xent_jax", "proofs"):
        shutil.rmtree(root / sources)
    with session.chdir(root):
        _pytest(session, ["errors", "versions"], "-n", "0", python=python)
