"""The report and the figures of the README and the docs are rendered from the stored data."""

import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from benchmarks._markdown import BLOCK, SOURCES, overview, rendered, report
from benchmarks._records import Record, find, pivot, records, span, table, target
from benchmarks._store import FOLDER, ORDER, README, load, note, save
from benchmarks._views import VIEWS, tables

PAGE = README.read_text("utf-8")
REPORT = (FOLDER / "report.md").read_text("utf-8")
PEER = "tokamax"
BENCH = "the benchmarks need more: pip install xent-jax[bench]"
PICTURES = [f"{name}.png" for name, section in load().items() if section["picture"]]


def command(*options):
    full = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(full, cwd=FOLDER.parent, capture_output=True, text=True)


def without_peer(sections):
    """Returns the sections as if they were measured where tokamax does not install."""
    return {
        name: section | {"records": [r for r in section["records"] if PEER not in r.program]}
        for name, section in sections.items()
    }


def test_the_readme_is_rendered_from_the_data_and_has_their_days():
    assert rendered(PAGE, load()) == PAGE
    (text,) = (found.group() for found in BLOCK.finditer(PAGE))
    days = sorted({load()[source]["date"] for source in SOURCES})
    assert f"\nMeasured {', '.join(days)} with jax " in text


def test_the_report_is_rendered_from_the_data():
    assert report(load()) == REPORT


def test_every_benchmark_was_measured_in_full():
    sections = load()
    assert tuple(sections) == ORDER
    assert [name for name, s in sections.items() if "date" not in s or s["quick"]] == []


def test_the_pictures_of_the_report_are_those_beside_it():
    assert re.findall(r"!\[.*?\]\((.*?)\)", REPORT) == PICTURES
    pictures = {path.name: path.read_bytes() for path in FOLDER.glob("*.png")}
    assert set(pictures) == set(PICTURES)
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())


def test_the_pictures_are_drawn_from_the_stored_records_alone(tmp_path):
    Image = pytest.importorskip("PIL.Image", reason=BENCH)
    pytest.importorskip("matplotlib", reason=BENCH)
    shutil.copy(FOLDER / "report.json", tmp_path)
    run = command("--draw", "--output", str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert {path.name for path in tmp_path.glob("*.png")} == set(PICTURES)
    for name in PICTURES:
        kept, drawn = (Image.open(folder / name) for folder in (FOLDER, tmp_path))
        # Another version of matplotlib draws the same text in other pixels, which is no fault.
        if kept.info["Software"] != drawn.info["Software"]:
            pytest.skip(f"{name} was drawn by {kept.info['Software']}, which sets text differently")
        np.testing.assert_array_equal(kept, drawn, err_msg=name)


def test_a_picture_without_records_is_refused(tmp_path):
    drawing = pytest.importorskip("benchmarks._drawing", reason=BENCH)
    with pytest.raises(LookupError, match="no records to draw for 'time over that"):
        drawing.save_pictures({"head": {"picture": True, "records": []}}, tmp_path)


def test_the_one_table_has_rows_of_every_benchmark():
    sections = load()
    lines = {name: overview({name: sections[name]})[0].splitlines()[2:] for name in sections}
    assert tuple(lines) == ORDER
    assert all(line in REPORT for rows in lines.values() for line in rows) and all(lines.values())


def test_a_peer_that_is_not_there_has_no_row_and_no_sentence():
    def lines(text):
        return re.findall(rf"^\| {PEER}.*|{PEER}'s head\s+takes", text, re.M)

    assert len(lines(PAGE)) == 1 and not lines(rendered(PAGE, without_peer(load())))
    assert len(lines(REPORT)) > 3 and not lines(report(without_peer(load())))


def test_a_peer_that_is_not_there_has_an_empty_column_in_the_one_table():
    def column(sections):
        head, _, *rows = overview(sections)[0].splitlines()
        at = head.split("|").index(f" {PEER} ")
        return {row.split("|")[at].strip() for row in rows}

    assert column(without_peer(load())) == {""} and len(column(load())) > 2


def test_a_benchmark_that_fails_keeps_what_was_measured_before(tmp_path):
    save(load(), tmp_path)
    note("head", ["out of memory"], tmp_path)
    assert load(tmp_path)["head"]["records"] == load()["head"]["records"]
    said = (tmp_path / "report.md").read_text("utf-8")
    assert "the figures above are older:\n\n```\nout of memory\n```" in said


def test_a_benchmark_that_was_never_measured_leaves_the_pages_be(tmp_path):
    note("head", ["out of memory"], tmp_path)
    assert rendered(PAGE, load(tmp_path)) == PAGE


def test_the_one_table_has_the_spans_of_the_ratios_with_and_without_the_gradient():
    kinds = ("integer", "float32"), ("integer", "bfloat16"), ("soft", "float32")
    ratios = {
        "Value and gradient": (0.91, 0.52, 0.53),
        "Value alone": (1.31, 0.82, 1.23),
        "Options, value and gradient": (0.64, 0.66),
    }
    found = []
    for study, numbers in ratios.items():
        for ratio, (case, dtype) in zip(numbers, kinds, strict=False):
            found += records(study, "xent_jax", {"ratio": ratio}, dtype=dtype, case=case)
    section = {"date": "2026-01-02", "quick": False, "records": found}
    text = overview({"logits": section})[0]
    for line in [
        "value and gradient, time over optax's: logits: integer labels, float32 | 0.91 to 0.91",
        "value and gradient, time over optax's: logits: integer labels, bfloat16 | 0.52 to 0.52",
        "value and gradient, time over optax's: logits: soft labels | 0.53 to 0.53",
        "value alone, time over optax's: logits: integer labels, float32 | 1.31 to 1.31",
        "value alone, time over optax's: logits: soft labels | 1.23 to 1.23",
        "value and gradient with options, time over optax's: logits | 0.64 to 0.66",
    ]:
        assert f"\n| {line} | 1 |" in text


# ------------------------------------------------------------------------------ the records


def test_every_number_is_stored_as_a_number_of_a_known_study():
    for section in load().values():
        for record in section["records"]:
            assert record.study in VIEWS
            assert isinstance(record.value, int | float) or (record.value is None and record.note)


def test_every_number_is_in_one_table():
    for name, section in load().items():
        for title, (head, rows) in tables(section["records"]).items():
            assert len(rows) == len({tuple(row[:2]) for row in rows}), (name, title)
            assert all(len(row) == len(head) for row in rows)


def test_records_survive_the_file(tmp_path):
    found = [
        target("speed", 0.5, 1),
        target("errors", 0, 0),
        Record("Heads", "head", "temp", None, "MiB", "float32", (1, 2, 3), "H100", note="E: no"),
    ]
    save({"head": {"title": "Head", "records": found}}, tmp_path)
    assert load(tmp_path)["head"]["records"] == found


@pytest.mark.parametrize(
    "found, text", [(1.0, "<= 1: reached"), (1.01, "<= 1: missed"), (float("nan"), "<= 1: missed")]
)
def test_a_target_is_reached_up_to_its_limit(found, text):
    assert pivot([target("speed", found, 1)], {"": "{program}"}, "{metric}")[1][0][-1] == text


@pytest.mark.parametrize(
    "value, unit, text",
    [
        (16388, "B", "16,388"),
        (0.17, "relative", "17%"),
        (3e-4, "relative", "3e-04"),
        (4321.0, "ulp", "4e+03"),
        (53.2, "ulp", "53"),
        (2.34, "ulp", "2.3"),
        (256.149, "MiB", "256.15"),
        (0.016741, "s", "16.74 ms"),
        (2.5e-6, "s", "2.5 us"),
        (0.12345, "", "0.1235"),
    ],
)
def test_a_number_is_shown_as_its_unit_is(value, unit, text):
    assert f"{Record('', '', '', value, unit)}" == text


def test_what_is_refused_says_so_in_its_cell():
    record = Record("CPU devices", "loss", "bytes", None, "B", note="TypeError: no")
    assert pivot([record], {"": "{program}"}, "{metric}")[1] == [["loss", "refused: TypeError: no"]]


def test_several_numbers_of_a_cell_are_divided_by_a_slash_and_a_cell_may_be_empty():
    found = records("Errors", "optax", {"loss": 1, "label": 2}, case="a")
    found += records("Errors", "xent_jax", {"loss": 3}, case="b")
    head, rows = pivot(found, {"case": "{case}"}, "{program}")
    assert (head, rows) == (["case", "optax", "xent_jax"], [["a", "1 / 2", ""], ["b", "", "3"]])
    assert table(head, rows).splitlines()[1] == "| --- | ---: | ---: |"


def test_a_span_is_of_the_numbers():
    assert span(records("", "", {"a": 10.0, "b": 9.0}), ".1f") == "9.0 to 10.0"


@pytest.mark.parametrize("smoothing", [{}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("z_loss", [{}, {"z_loss": 0.01}])
@pytest.mark.parametrize("labels", ["integer", "soft"])
def test_the_options_in_optax_are_those_of_xent_jax(labels, z_loss, smoothing):
    _peers = pytest.importorskip("benchmarks._peers", reason=BENCH)
    z, y = jnp.sin(jnp.arange(20.0).reshape(4, 5)), jnp.array([0, -100, 3, 4])
    if labels == "integer":
        ours, theirs = xent_jax.softmax_cross_entropy_with_integer_labels, _peers.optax_integer
        own = {"ignore_index": -100}
    else:
        ours, theirs = xent_jax.softmax_cross_entropy, _peers.optax_soft
        y, own = jax.nn.softmax(-z), {"class_weights": jnp.linspace(0.5, 1.5, 5)}
    options = own | z_loss | smoothing
    np.testing.assert_allclose(ours(z, y, **options), theirs(z, y, **options), rtol=1e-5)


def test_equations_inside_others_are_counted():
    compile_time = pytest.importorskip("benchmarks.compile_time", reason=BENCH)
    jaxpr = jax.make_jaxpr(lambda x: jax.jit(lambda x: jnp.sin(x) + 1)(x) * 2)(1.0)
    assert len(jaxpr.eqns) == 2 and compile_time.equations(jaxpr) == 4


def test_an_unknown_name_is_refused_with_those_there_are():
    run = command("--only", "speed")
    assert run.returncode == 2
    assert f"no speed; there are {', '.join(ORDER)}" in run.stderr


@pytest.mark.slow
def test_the_cheapest_part_runs(tmp_path):
    pytest.importorskip("benchmarks.accuracy", reason=BENCH)
    run = command("--quick", "--only", "accuracy", "--output", str(tmp_path))
    assert run.returncode == 0, run.stdout
    section = load(tmp_path)["accuracy"]
    assert section["quick"] and (tmp_path / "accuracy.png").exists()
    assert all(record.unit for record in section["records"])
    ours = find(section["records"], study="Errors", program="xent_jax", dtype="float32")
    allowed = {"gap 80": 8 + 80 / 2}
    beyond = [r for r in ours if not (r.unit == "ulp" and r.value <= allowed.get(r.case, 8))]
    assert ours and not beyond
