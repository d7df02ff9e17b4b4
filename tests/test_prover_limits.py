"""Every proof ends within its limits of time and memory, and keeps no terms afterwards."""

import functools
import itertools
import time

import jax
import jax.numpy as jnp
import pytest
from xent_jax.proofs import array, prove_jvp, prove_vjp
from xent_jax.proofs._normal_form import state, terms
from xent_jax.proofs._prover import decision

from tests.rules import assert_refuted, with_backward

ROW = {"x": array("n")}


def nested(x):
    return functools.reduce(lambda y, _: jnp.tanh(y), range(10), x)


def test_a_proof_that_grows_ends_in_time():
    before = len(terms._atoms)
    verdict = prove_vjp(nested, ROW, ("x",), second_order=True, timeout=2)
    assert verdict.status == "unknown"
    assert "it grew past the limit of time, timeout=2 s" in verdict.reason
    assert len(terms._atoms) == before


def test_no_terms_of_a_proof_are_kept():
    before = len(terms._atoms)
    assert prove_vjp(jnp.tanh, ROW, ("x",)).proved
    assert len(terms._atoms) == before


def test_other_programs_do_not_change_how_it_is_proved(monkeypatch):
    """The first try is limited in the processor's time, which other programs do not use up."""
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: 1000 * clock())
    monkeypatch.setattr(state, "_CALLS_BETWEEN_LOOKS", 1)
    monkeypatch.setattr(decision, "by_layers", lambda: pytest.fail("proved layer by layer"))
    assert prove_vjp(lambda x: jnp.tanh(jnp.tanh(x)), ROW, ("x",), timeout=1e6).proved


@pytest.fixture
def growing(monkeypatch):
    """Makes memory seem to grow by a MiB at each look; a real process may reuse freed memory."""
    sizes = itertools.count(0, 1 << 20)
    monkeypatch.setattr(state, "resident", lambda: next(sizes))
    monkeypatch.setattr(state, "MEMORY", 1 << 20)


def test_what_grows_is_refuted_all_the_same(monkeypatch, growing):
    monkeypatch.setattr(decision, "_SEARCH", float("inf"))
    wrong = with_backward(nested, lambda g, x: 1.01 * jax.vjp(nested, x)[1](g)[0])
    verdict = prove_vjp(wrong, ROW, ("x",), timeout=None)
    assert_refuted(verdict)


def test_a_proof_that_takes_much_memory_ends(growing):
    verdict = prove_vjp(nested, ROW, ("x",), second_order=True, timeout=60)
    assert verdict.status == "unknown"
    assert "it grew past the limit of memory, 0.000977 GiB" in verdict.reason


def test_the_next_proof_is_not_disturbed():
    prove_vjp(nested, ROW, ("x",), timeout=0.5)
    assert prove_vjp(jnp.tanh, ROW, ("x",), timeout=None).proved


@pytest.mark.parametrize("timeout", [0, -1.0, "60"])
@pytest.mark.parametrize("prove", [prove_vjp, prove_jvp])
def test_a_wrong_timeout(prove, timeout):
    with pytest.raises(ValueError, match=f"{prove.__name__}: timeout must be .*, got {timeout!r}"):
        prove(jnp.tanh, ROW, ("x",), timeout=timeout)
