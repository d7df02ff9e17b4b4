"""The tests run on as many workers as the memory allows, and are compiled as they are marked."""

import os
import re
from pathlib import Path

import jax.numpy as jnp
import pytest
from jax._src import compiler

from tests import conftest


@pytest.mark.parametrize("gigabytes, workers", [(0.5, 1), (3, 1), (5, 2), (64, 8)])
def test_workers_follow_the_memory(gigabytes, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(conftest, "available_memory", lambda: gigabytes * conftest.GIB)
    assert conftest.pytest_xdist_auto_num_workers(None) == workers


def test_some_memory_is_available():
    assert conftest.GIB // 8 < conftest.available_memory() < 2**50


class Item:
    """Stands for a collected test, with the attributes that the hook uses."""

    def __init__(self, file, name, slow=False, marks=()):
        self.path, self.originalname, self.slow = Path(file), name, slow
        self.marks = [getattr(pytest.mark, mark).mark for mark in marks]

    def add_marker(self, name):
        self.slow = self.slow or name == "slow"

    def get_closest_marker(self, name):
        return self.slow and name == "slow" or None

    def iter_markers(self):
        return iter(self.marks)


def quick(file, count, slow=(), name="test_value"):
    """Returns which of the cases of one test are quick, by their positions."""
    items = [Item(file, name, i in slow) for i in range(count)]
    conftest.pytest_collection_modifyitems(items)
    return [i for i, item in enumerate(items) if not item.slow]


def test_one_case_of_a_test_with_many_long_ones_is_quick():
    (first,), (second,) = quick("test_head.py", 40), quick("test_head.py", 40, name="test_gradient")
    assert first != second
    assert quick("test_head.py", 1) == [0]
    assert len(quick("test_head.py", 40, slow=range(30))) == 1


def test_what_is_compiled_alike_follows_one_another():
    fast = ("fast_compile",)
    items = [Item(file, "test", marks=m) for file in ("b.py", "a.py") for m in ((), fast, (), fast)]
    first, second, third, fourth = items[:4]
    conftest.pytest_collection_modifyitems(items)
    assert items[:4] == [second, fourth, first, third]
    assert [item.path.name for item in items[4:]] == ["a.py"] * 4


def test_all_cases_of_other_tests_are_quick():
    assert quick("test_contract.py", 40) == list(range(40))
    assert len(quick("test_contract.py", 40, name="test_export")) == 1
    assert quick("test_contract.py", 40, slow=[3]) == [i for i in range(40) if i != 3]


def test_files_with_many_long_cases_are_there():
    files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert {name.split("::")[0] for name in conftest.MANY_LONG_CASES} <= files
    for file, test in (name.split("::") for name in conftest.MANY_LONG_CASES if "::" in name):
        assert f"def {test}(" in (Path(__file__).parent / f"test_{file}.py").read_text("utf-8")


def test_no_test_file_imports_from_another():
    for path in Path(__file__).parent.glob("test_*.py"):
        assert not re.search(r"^from tests(\.| import )test_", path.read_text("utf-8"), re.M), path


def overrides():
    return dict(compiler.get_compile_options(1, 1).env_option_overrides)


@pytest.mark.fast_compile
def test_what_is_marked_is_compiled_fast():
    assert overrides() == conftest.FAST_COMPILE
    assert jnp.ones(3).sum() == 3


def test_all_else_is_compiled_as_users_compile_it():
    assert overrides() == {}
