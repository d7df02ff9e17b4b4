"""The report and the figures of the README and the docs are rendered from the stored data."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax

for _package in ("rich", "matplotlib", "mpmath", "optax"):
    pytest.importorskip(_package, reason="the benchmarks need it: pip install xent-jax[bench]")

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))
import _optax_options  # noqa: E402  it lies there
from _markdown import report  # noqa: E402
from _overview import PARTS, overview  # noqa: E402
from _readme import BLOCK, BLOCKS, PAGES, SOURCES, rendered  # noqa: E402
from _store import ORDER, load, note, save  # noqa: E402
from compile_time import equations  # noqa: E402

PAGE = "\n".join(page.read_text("utf-8") for page in PAGES)
REPORT = (BENCHMARKS / "report.md").read_text("utf-8")
PEER = "tokamax"
PICTURES = [f"{name}.png" for name, section in load().items() if section.get("picture", True)]


def command(*options):
    full = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(full, cwd=ROOT, capture_output=True, text=True)


def without_peer(sections):
    """As measured where tokamax does not install: no row of it, or an empty one."""
    text = json.dumps(sections)
    cut = json.loads(text)
    for section in cut.values():
        for title, (head, rows) in section["tables"].items():
            kept = [row for row in rows if PEER not in row[0]]
            absent = [
                [row[0], "not installed"] + [""] * (len(row) - 2) for row in rows if PEER in row[0]
            ]
            listed = title.startswith(("Time in float32", "Errors in bfloat16"))
            section["tables"][title] = [head, kept + absent * listed]
    return cut


def test_the_readme_and_the_pages_are_rendered_from_the_data():
    assert rendered(PAGE, load()) == PAGE


def test_the_report_is_rendered_from_the_data():
    assert report(load()) == REPORT


def test_every_block_stands_in_one_page_once_with_its_days():
    found = {name: text for text, name in ((m.group(), m[2]) for m in BLOCK.finditer(PAGE))}
    assert list(found) == [m[2] for m in BLOCK.finditer(PAGE)] and set(found) == set(BLOCKS)
    for name, text in found.items():
        days = sorted({load()[source]["date"] for source in SOURCES.get(name, (name,))})
        assert f"\nMeasured {' and '.join(days)} with jax " in text


def test_the_readme_has_a_block():
    assert PAGES[0] == ROOT / "README.md" and BLOCK.search(PAGES[0].read_text("utf-8"))


def test_every_benchmark_was_measured_in_full():
    sections = load()
    assert tuple(sections) == ORDER
    assert [name for name, s in sections.items() if "date" not in s or s["quick"]] == []


def test_every_picture_of_the_report_exists():
    named = re.findall(r"!\[.*?\]\((.*?)\)", REPORT)
    assert named == PICTURES
    assert all((BENCHMARKS / name).read_bytes().startswith(b"\x89PNG") for name in named)


def test_every_picture_beside_the_report_is_in_it():
    assert {path.name for path in BENCHMARKS.glob("*.png")} == set(PICTURES)


def test_the_one_table_has_rows_of_every_benchmark():
    sections = load()
    lines = {name: overview({name: sections[name]})[0].splitlines()[2:] for name in sections}
    assert tuple(PARTS) == ORDER
    assert all(line in REPORT for rows in lines.values() for line in rows) and all(lines.values())


def test_a_peer_that_is_not_there_has_no_row_and_no_sentence():
    def lines(page):
        return re.findall(rf"^\|.*{PEER}|{PEER}'s head takes", page, re.M)

    assert len(lines(PAGE)) > 3 and not lines(rendered(PAGE, without_peer(load())))


def test_a_peer_that_is_not_there_has_an_empty_column_in_the_one_table():
    def column(sections):
        head, _, *rows = overview(sections)[0].splitlines()
        at = head.split("|").index(f" {PEER} ")
        return {row.split("|")[at].strip() for row in rows}

    assert column(without_peer(load())) == {""} and len(column(load())) > 2


def test_a_benchmark_that_fails_keeps_what_was_measured_before(tmp_path):
    save(load(), tmp_path)
    note("head", ["out of memory"], tmp_path)
    assert load(tmp_path)["head"]["tables"] == load()["head"]["tables"]
    assert "the figures above are older:\n\n```\nout of memory\n```" in (
        tmp_path / "report.md"
    ).read_text("utf-8")


def test_a_benchmark_that_was_never_measured_leaves_the_pages_be(tmp_path):
    note("head", ["out of memory"], tmp_path)
    assert rendered(PAGE, load(tmp_path)) == PAGE


def logits_section(with_options):
    """Makes a section like the one that logits.py stores, with three cells and one option."""
    head = ["logits", "labels", "ratio", "optax\ntemp %", "xent_jax\ntemp %"]

    def rows(float32, bfloat16, soft):
        return [
            ["512 x 8192 float32", "integer", float32, "3", "4"],
            ["512 x 8192 bfloat16", "integer", bfloat16, "5", "6"],
            ["512 x 8192 float32", "soft", soft, "7", "8"],
        ]

    means = ["value and gradient: geometric mean", "0.7"], ["value alone: geometric mean", "1.1"]
    tables = {
        "Targets": (["", "found"], means),
        "Value and gradient": (head, rows("0.91", "0.52", "0.53")),
        "Value alone": (head, rows("1.31", "0.82", "1.23")),
    }
    if with_options:
        tables["Options, value and gradient"] = (head, rows("0.64", "0.65", "0.66"))
    return {"date": "2026-01-02", "machine": "jax 0.10.2", "tables": tables}


def test_the_logits_block_has_the_ratios_with_and_without_the_gradient_and_the_memory():
    text = rendered(PAGE, {"logits": logits_section(True)})
    for line in [
        "| geometric mean of all | 0.7 | 1.1 |",
        "| integer labels, float32 | 0.91 to 0.91 | 1.31 to 1.31 |",
        "| integer labels, bfloat16 | 0.52 to 0.52 | 0.82 to 0.82 |",
        "| soft labels | 0.53 to 0.53 | 1.23 to 1.23 |",
        "| with options | 0.64 to 0.66 |  |",
        "4 % in float32, optax's 3 %; 6 % in bfloat16, optax's 5 %.",
    ]:
        assert f"\n{line}\n" in text


def test_data_of_before_the_options_leave_the_logits_block_be():
    assert rendered(PAGE, {"logits": logits_section(False)}) == PAGE


@pytest.mark.parametrize("smoothing", [{}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("z_loss", [{}, {"z_loss": 0.01}])
@pytest.mark.parametrize("labels", ["integer", "soft"])
def test_the_options_in_optax_are_those_of_xent_jax(labels, z_loss, smoothing):
    z, y = jnp.sin(jnp.arange(20.0).reshape(4, 5)), jnp.array([0, -100, 3, 4])
    if labels == "integer":
        ours, theirs = xent_jax.softmax_cross_entropy_with_integer_labels, _optax_options.integer
        own = {"ignore_index": -100}
    else:
        ours, theirs = xent_jax.softmax_cross_entropy, _optax_options.soft
        y, own = jax.nn.softmax(-z), {"class_weights": jnp.linspace(0.5, 1.5, 5)}
    options = own | z_loss | smoothing
    np.testing.assert_allclose(ours(z, y, **options), theirs(z, y, **options), rtol=1e-5)


def test_equations_inside_others_are_counted():
    jaxpr = jax.make_jaxpr(lambda x: jax.jit(lambda x: jnp.sin(x) + 1)(x) * 2)(1.0)
    assert len(jaxpr.eqns) == 2 and equations(jaxpr) == 4


def test_an_unknown_name_is_refused_with_those_there_are():
    run = command("--only", "speed")
    assert run.returncode == 2
    assert f"no speed; there are {', '.join(ORDER)}" in run.stderr


def test_the_cheapest_part_runs(tmp_path):
    run = command("--quick", "--only", "accuracy", "--output", str(tmp_path))
    assert run.returncode == 0, run.stdout
    section = load(tmp_path)["accuracy"]
    assert section["quick"] and (tmp_path / "accuracy.png").exists()
    head, rows = section["tables"]["float32, in units of the last place"]
    found = {row[0]: max(map(float, row[head.index("xent_jax")].split(" / "))) for row in rows}
    beyond = {what for what, e in found.items() if not e <= (8 + 80 / 2 if what == "gap 80" else 8)}
    assert found and not beyond
