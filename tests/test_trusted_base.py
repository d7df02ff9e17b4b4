"""CONTRIBUTING names every file that a proof rests on, with its lines."""

from tests import trusted_base as base


def test_contributing_has_the_table_as_it_is_now():
    page = base.PAGE.read_text("utf-8")
    assert base.table() in page, "python -m tests.trusted_base --write brings the table up to date"


def test_each_file_of_the_proofs_is_trusted_or_said_not_to_be():
    named = [p for patterns in base.PARTS.values() for p in base.trusted(patterns)]
    assert len(named) == len(set(named)) > 40
    assert {*named, *base.files(base.FREE)} == set(base.PROOFS.rglob("*.py"))


def test_the_table_counts_lines_and_takes_the_first_sentence(tmp_path, monkeypatch):
    (tmp_path / "_theorems").mkdir()
    (tmp_path / "_theorems" / "of.py").write_text('"""What ``x`` is.\n\nMore."""\n\nx = 1\n')
    monkeypatch.setattr(base, "PROOFS", tmp_path)
    assert "| `_theorems/of.py` | 5 | What `x` is. |\n" in base.table()
    assert base.with_table("a\n<!-- trusted -->\nold\n<!-- end -->\nb") == (
        f"a\n<!-- trusted -->\n{base.table()}<!-- end -->\nb"
    )
