"""The changes of ``python -m tests.library_mutants`` apply, and it tells what notices them."""

import ast
import fnmatch
from pathlib import Path

import pytest

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")
pytest.importorskip("rich", reason="the command needs rich: pip install xent-jax[proofs]")

from xent_jax.proofs._theorems.shipped import THEOREMS  # noqa: E402

import xent_jax  # noqa: E402
from tests import library_mutants as m  # noqa: E402
from tests.library_changes import CHANGES, Change  # noqa: E402

NAMES = [theorem.name for theorem in THEOREMS]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.name)
def test_a_change_applies_and_what_could_notice_it_is_there(change):
    ast.parse(m.changed((m.LIBRARY / change.file).read_text("utf-8"), change))
    assert not change.theorems or fnmatch.filter(NAMES, change.theorems)
    for test in change.tests.split():
        file, name = test.split("::")
        assert f"def {name}(" in (Path(__file__).parent / file).read_text("utf-8")
    assert bool(change.theorems or change.tests) != bool(change.equal)


def test_every_module_is_changed_and_no_change_is_made_twice():
    """Modules of losses need no change: ``tests.mutation`` changes all backwards with a theorem."""
    homes = {getattr(xent_jax, theorem.function).__module__ for theorem in THEOREMS}
    losses = {f"{home.removeprefix('xent_jax.')}.py" for home in homes}
    modules = {path.name for path in m.LIBRARY.glob("*.py")}
    assert modules - losses <= {c.file for c in CHANGES} <= modules
    assert len({c.name for c in CHANGES}) == len(CHANGES)


def test_what_occurs_twice_is_no_change():
    with pytest.raises(ValueError, match="occurs 2 times"):
        m.changed("x = 1; y = 1", Change("_poly.py", "1", "2"))


@pytest.mark.parametrize("found, status", [("theorem softmax: gradient (refuted)", 0), ("", 1)])
def test_the_command_fails_where_nothing_notices(found, status, monkeypatch, capsys):
    monkeypatch.setattr(m, "noticed", lambda change: found)
    assert m.main(["--only", "_poly.py", "--jobs", "1"]) == status
    printed = capsys.readouterr().out
    assert (found or "nothing") in printed
    assert f"2 changes, {2 * status} noticed by nothing" in printed


def test_a_change_that_is_equal_needs_no_notice(monkeypatch, capsys):
    equal = next(c for c in CHANGES if c.equal)
    monkeypatch.setattr(m, "noticed", lambda change: "")
    assert m.main(["--only", equal.name, "--jobs", "1"]) == 0
    assert "equal: " in capsys.readouterr().out


def test_no_such_change(capsys):
    with pytest.raises(SystemExit, match="2"):
        m.main(["--only", "nothing"])
    assert "there is no such change" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES[2:60:10], ids=lambda c: c.name)
def test_a_change_is_noticed(change):
    assert m.noticed(change)


@pytest.mark.slow
def test_what_changes_nothing_is_not_noticed():
    quick = {
        "theorems": "poly*: gradient",
        "tests": "test_head_padding.py::test_padding_of_any_value",
    }
    assert m.noticed(Change("_poly.py", "Source: Leng", "Source: leng", **quick)) == ""
