"""The docstrings of functions are sentences: they begin with a verb, such as "Returns"."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import xent_jax

ROOT = Path(__file__).parents[1]
FOLDERS = ["xent_jax", "proofs", "tests", "benchmarks", "examples", "docs"]


def described(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the names and docstrings of the functions in a file.

    Properties and public functions of the library are left out, because their docstrings begin with
    a noun, and so are tests, because the subject of theirs comes first.
    """
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.FunctionDef) or not (text := ast.get_docstring(node)):
            continue
        is_property = any("property" in ast.unparse(d) for d in node.decorator_list)
        is_public = path.parent.name == "xent_jax" and node.name in xent_jax.__all__
        if not (is_property or is_public or node.name.startswith("test_")):
            yield node.name, text


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_docstring_of_a_function_begins_with_a_verb(folder):
    found = [pair for path in (ROOT / folder).rglob("*.py") for pair in described(path)]
    assert len(found) > 5
    assert [pair for pair in found if not re.match(r"[A-Z][a-z]+s\b", pair[1])] == []
