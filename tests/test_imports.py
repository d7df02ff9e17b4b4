"""No modules of the library or the proofs import one another in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules():
    """Returns the files of the library and of the proofs by the names of their modules."""
    found = {}
    for path in (*ROOT.glob("xent_jax/**/*.py"), *ROOT.glob("proofs/**/*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = ("xent_jax", *parts) if parts[0] == "proofs" else parts
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


def at_run_time(node):
    """Yields all nodes inside a node, except those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.If) or ast.unparse(child.test) != "TYPE_CHECKING":
            yield child
            yield from at_run_time(child)


def imported(name, path, known):
    """Yields the modules that a file imports, at its top or inside a function."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in at_run_time(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in known else source


def graph_of(known):
    """Returns the known modules that each known module imports."""
    return {n: {m for m in imported(n, path, known) if m in known} for n, path in known.items()}


def cycle(graph):
    """Returns the modules of one circle of imports, or None if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]


def test_no_modules_import_one_another_in_a_circle():
    graph = graph_of(modules())
    assert len(graph) > 100
    assert cycle(graph) is None


def test_a_circle_is_found_through_relative_imports_and_functions(tmp_path):
    (tmp_path / "a.py").write_text("import json\nfrom . import b\n")
    (tmp_path / "b.py").write_text("def f():\n    from .c import g\n")
    (tmp_path / "c.py").write_text("from x.a import f\n")
    graph = graph_of({f"x.{path.stem}": path for path in tmp_path.iterdir()})
    assert set(cycle(graph)) == set(graph)
