"""The version matrix: ``nox`` runs all of it, ``nox -l`` lists it, ``nox -t light`` what CI can.

A session is a Python with a JAX. One is left out only where that JAX has no release for that
Python: the newest needs Python 3.12.
"""

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
LIBRARY = ["contract", "head", "accuracy", "errors", "edges"]
PROVER = ["versions", "prover_verdicts", "prover_scan", "prover_products", "prover_translation"]
cells = nox.parametrize("python,version", CELLS)


def _install(session: nox.Session, version: str) -> None:
    """The package on this JAX; of the test extra only what these tests import."""
    tools = ["hypothesis", "mpmath", "optax", "pytest", "pytest-xdist"]
    session.install("-e", ".[proofs]", JAX[version], *tools)
    session.run("python", "-c", "import jax; print('jax', jax.__version__)")


def _pytest(session: nox.Session, names: list[str], *options: str) -> None:
    session.run("python", "-m", "pytest", *(f"tests/test_{n}.py" for n in names), *options)


@nox.session(tags=["matrix"])
@cells
def matrix(session: nox.Session, version: str) -> None:
    """The library's contract and the prover, all theorems included."""
    _install(session, version)
    _pytest(session, LIBRARY + PROVER, *session.posargs)


@nox.session(tags=["light"], default=False)
@cells
def light(session: nox.Session, version: str) -> None:
    """Value and gradient of each function, the messages, and the prover's rules."""
    _install(session, version)
    _pytest(session, ["contract"], "-n", "0", "-k", "value_and_gradient")
    _pytest(session, ["errors", "versions"], "-n", "0")
