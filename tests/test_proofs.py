"""The fixed-size symbolic checks: one for each function, each able to fail."""

import re
import subprocess
import sys

import pytest

import xent_jax

sympy = pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")

from xent_jax import proofs  # noqa: E402

FUNCTIONS = sorted(set(xent_jax.__all__) - {"forward_mode", "__version__"})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_names_a_check_that_holds(name):
    (proof,) = re.findall(r"Proof:\s+``(\w+)``", getattr(xent_jax, name).__doc__)
    assert proof == name
    assert proofs.check(proof)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_wrong_gradient_fails(name, monkeypatch):
    loss, variables, closed = proofs.CHECKS[name]()
    wrong = [closed[0] + sympy.Rational(1, 7) * variables[0], *closed[1:]]
    monkeypatch.setitem(proofs.CHECKS, name, lambda: (loss, variables, wrong))
    assert not proofs.check(name)


def test_the_command_prints_a_line_for_each():
    run = subprocess.run([sys.executable, "-m", "xent_jax.proofs"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert sorted(re.findall(r"^holds  (\w+)$", run.stdout, re.M)) == FUNCTIONS
