"""Tables of texts, which are read by row and column and written as Markdown."""

from collections.abc import Iterable

TARGETS = "Targets"


def read(tables: dict, title: str) -> list[tuple[str, dict[str, str]]]:
    """Returns each row of the table with that title: its first cell, and the others by name."""
    for known, (head, rows) in tables.items():
        if known.startswith(title):
            names = [name.replace("\n", " ") for name in head[1:]]
            return [(first, dict(zip(names, rest, strict=True))) for first, *rest in rows]
    return []


def table(head: list[str], rows: list[list[str]]) -> str:
    """Returns a table in Markdown, with columns of numbers aligned to the right."""
    columns = zip(*rows, strict=True)
    rule = ["---:" if all(c == "" or c[0].isdigit() for c in cells) else "---" for cells in columns]
    lines = [[h.replace("\n", " ") for h in head], rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def short(size: float) -> str:
    """Returns a size in B to TB, which are powers of ten."""
    for step, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size} B"


def sent(cells: dict[str, str]) -> str:
    """Returns the bytes of a row of traffic with a unit, or the name of its error."""
    if cells["bytes per device"] == "refused":
        return f"`{cells['what crosses'].partition(':')[0]}`"
    return short(int(cells["bytes per device"].replace(",", "")))


def span(texts: Iterable[str]) -> str:
    """Returns the least and the greatest of some numbers."""
    texts = list(texts)
    return f"{min(texts, key=float)} to {max(texts, key=float)}"
