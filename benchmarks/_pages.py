"""The figures in the README and in docs/measured, written from the data.

A block stands between ``<!-- benchmarks: NAME -->`` and ``<!-- end -->``. Rows whose records are
not in the data, such as those of a peer that does not install, are left out.
"""

import re
import textwrap

from benchmarks._markdown import LABELS
from benchmarks._records import Record, find, pivot, shown, span, table
from benchmarks._store import FOLDER, load

ROOT = FOLDER.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "measured").glob("*.md"))]
BLOCK = re.compile(r"(<!-- benchmarks: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
STUDIES = "Value and gradient", "Value alone"
TOKAMAX = "tokamax head, chunked_xla"
Records = list[Record]


def write() -> None:
    sections = load()
    for page in PAGES:
        page.write_text(rendered(page.read_text("utf-8"), sections), "utf-8")


def rendered(page: str, sections: dict[str, dict]) -> str:
    """Returns the page with new blocks. A block whose benchmarks were never run stays as it is."""

    def block(found: re.Match) -> str:
        begin, name, end = found.groups()
        used = [sections.get(source, {}) for source in SOURCES.get(name, (name,))]
        if not all("date" in section for section in used):
            return found.group()
        text = BLOCKS[name](*(section["records"] for section in used))
        return f"{begin}{text}\n\n{origin(used)}\n{end}"

    return BLOCK.sub(block, page)


def origin(sections: list[dict]) -> str:
    """Returns the days of measurement and the versions of JAX; the report has the rest."""
    days = sorted({section["date"] for section in sections})
    versions = sorted({re.search(r"jax [\d.]+", s["machine"]).group() for s in sections})
    text = f"Measured {' and '.join(days)} with {' and '.join(versions)}"
    if busy := sorted({s["others"] for s in sections if s.get("others")}):
        text += f" while other programs kept {' and '.join(busy)} cores busy"
    return f"{text}."


def rows_of(records: Records, programs: dict[str, str], *templates: str, **fields) -> list:
    """Returns a row for each program that was measured: its label, and a cell for each template."""
    rows = [
        [label, *(shown(records, template, program=program, **fields) for template in templates)]
        for label, program in programs.items()
    ]
    return [row for row in rows if any(row[1:])]


def why(accuracy: Records, logits: Records, compile_time: Records, head: Records) -> str:
    """Returns three of the README's reasons, with a figure each, and then what they cost."""
    at = {"study": "Relative errors", "case": "gap 20", "metric": "loss"}
    errors = "{xent_jax}, and optax's is {optax integer} ([accuracy](docs/measured/accuracy.md))."
    both, alone = geometric_means(logits)
    integer = span(find(ratios(logits, STUDIES[0]), **LABELS["integer labels, float32"]), ".3f")
    slowest = max(record.value for record in ratios(logits, STUDIES[1]))
    traced = max(r.value for r in find(compile_time, study="Over optax's", metric="trace"))
    grown = find(head, study="Memory against N", metric="temp")[-2:]
    tokens, _, classes = grown[0].shape
    held = "{xent_jax head:,.0f} MiB of temporary memory, and optax on held logits takes "
    held += "{logits, optax:,.0f} MiB ([memory](docs/measured/head.md))."
    temps = "tokamax's head takes {tokamax head, chunked_xla:.0f} MiB of temporary memory where "
    temps += "ours takes {head, value and gradients:.0f} MiB."
    lines = [
        "- **Exact.** When the label's logit leads by 20, the relative error of the loss is "
        + shown(accuracy, errors, by="program", **at),
        f"- **Fast.** On CPU, value and gradient take {both} times as long as optax's, in the "
        "geometric mean over labels, sizes and dtypes ([time](docs/measured/logits.md)).",
        f"- **Small.** For {tokens:,} tokens and a vocabulary of {classes:,}, the head takes "
        + shown(grown, held, by="program"),
        "",
        f"The costs: on CPU, integer labels in float32 take {integer} times as long as optax's, "
        f"the value alone takes {alone} times as long in the geometric mean and {slowest:.3f} "
        "times at most, and [tracing](docs/measured/compile_time.md) takes up to "
        f"{traced:.2f} times as long. "
        + shown(head, temps, by="program", study="Time", metric="temp"),
    ]
    return "\n".join(filled(line) for line in lines)


def filled(text: str) -> str:
    """Returns the text in lines as long as the README's."""
    style = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, 118, subsequent_indent="  " * text.startswith("-"), **style)


def accuracy(records: Records) -> str:
    """Returns the relative errors of the loss and of the label's gradient, by library and gap."""
    rows = {"relative error of loss / gradient at the label": "{program}"}
    return table(*pivot(find(records, study="Relative errors"), rows, "{case}"))


def compile_time(records: Records) -> str:
    steps = "trace", "lower", "compile", "equations", "call"
    over = [r for r in records if "over optax" in r.study.lower()]
    lines = [
        [f"{r.case}, {r.size}"]
        + [shown(over, f"{{{step}:.2f}}", case=r.case, shape=r.shape) for step in steps]
        for r in find(over, metric=steps[0])
    ]
    return table(["value and gradient, over optax's", *steps], lines)


def ratios(records: Records, study: str) -> Records:
    return find(records, study=study, program="xent_jax", metric="ratio")


def geometric_means(records: Records) -> list[str]:
    """Returns those of value and gradient and of the value alone."""
    names = (f"{study.lower()}: geometric mean" for study in STUDIES)
    return [shown(records, "{found:.3f}", study="Targets", program=name) for name in names]


def logits(records: Records) -> str:
    both = [ratios(records, study) for study in STUDIES]
    options = span(ratios(records, "Options, value and gradient"), ".3f")
    lines = [
        ["geometric mean of all", *geometric_means(records)],
        *([k, *(span(find(of, **at), ".3f") for of in both)] for k, at in LABELS.items()),
        ["with options", options, ""],
    ]
    at = {"study": STUDIES[0], "metric": "share", "shape": (512, 8192), "case": "integer"}
    text = "{{xent_jax:.2f}} % in {0}, optax's {{optax:.2f}} %"
    dtypes = "float32", "bfloat16"
    shares = (shown(records, text.format(d), by="program", dtype=d, **at) for d in dtypes)
    head = ["time over optax's on CPU", "value and gradient", "value alone"]
    what = "Temporary memory of value and gradient with 8,192 classes, of the logits' bytes:"
    return f"{table(head, lines)}\n\n{what}\n{'; '.join(shares)}."


HEAD_ROWS = {
    "`linear_softmax_cross_entropy`, mean": "head, value and gradients",
    'the same, reduction `"none"`': 'head, reduction "none"',
    "value alone": "head, value alone",
    "the inputs' gradient alone": "head, gradient of the inputs alone",
    "the kernel's gradient alone": "head, gradient of the kernel alone",
    "logits held, optax": "logits, optax",
    "tokamax, `chunked_xla`": TOKAMAX,
}


def head(records: Records) -> str:
    lines = rows_of(records, HEAD_ROWS, "{ratio:.3f}", "{temp:.0f} MiB", study="Time")
    titles = ["value and gradients", "time over three products", "temporary memory"]
    *first, _, _ = grown = find(records, study="Memory against N", metric="temp")
    ends = first[:2] + grown[-2:]
    tokens = " and ".join(f"{record.shape[0]:,}" for record in ends[::2])
    ours, theirs = (" and ".join(f"{r:,.0f}" for r in ends[i::2]) for i in (0, 1))
    shares = []
    for peer, named in {"logits, optax": "logits held, optax", TOKAMAX: "tokamax"}.items():
        of = [r for r in find(records, study="Targets") if f"over that of {peer}" in r.program]
        shares += [f"{' and '.join(f'{r:.2f}' for r in of)} of those of {named}"] * bool(of)
    return (
        f"{table(titles, lines)}\n\nTemporary memory at {tokens} tokens: {ours} MiB with the head, "
        f"{theirs} with logits held.\nWith bfloat16 inputs the errors of dx and dW are\n"
        f"{', '.join(shares)}."
    )


COMPILED_ROWS = {
    "`linear_softmax_cross_entropy`, mean": "head, mean",
    "logits held, optax": "logits, optax",
    "logits held in float32, optax": "logits cast to float32, optax",
    "tokamax, `chunked_xla`": TOKAMAX,
}


def compile_only(records: Records) -> str:
    found = find(records, study="Heads", dtype="bfloat16")
    devices = list(dict.fromkeys(record.case for record in found))
    columns = [rows_of(found, COMPILED_ROWS, "{temp:.2f}", case=device) for device in devices]
    lines = [[rows[0][0], *(cell for _, cell in rows)] for rows in zip(*columns, strict=True)]
    return table(["value and gradients in bfloat16, MiB", *devices], lines)


_SHARDED = "head, shard_linear_head"
TRAFFIC_ROWS = {
    "loss of logits: automatic, explicit, in `shard_map`": [
        f"loss, {how}" for how in ("automatic", "explicit", "in shard_map")
    ],
    "optax: automatic; explicit": ["optax loss, automatic", "optax loss, explicit"],
    "`shard_linear_head`: the gradients of inputs and kernel": [_SHARDED],
    "the same with the kernel fully sharded": [f"{_SHARDED}, kernel fully sharded"],
    "the head in chunks without `shard_linear_head`": ["head, automatic, chunks of 256"],
    "tokamax, `chunked_xla`, automatic": [f"{TOKAMAX}, automatic"],
}


def traffic(records: Records) -> str:
    sent = {
        record.program: f"{record:short}" if record.value else f"`{record.note.partition(':')[0]}`"
        for record in find(records, study="CPU devices", metric="bytes")
    }
    lines = [
        [label, "; ".join(dict.fromkeys(sent[program] for program in programs))]
        for label, programs in TRAFFIC_ROWS.items()
        if set(programs) <= set(sent)
    ]
    return table(["value and gradients", "bytes between devices, per device"], lines)


SOURCES = {"why": ("accuracy", "logits", "compile_time", "head")}
"""The benchmarks that a block takes its figures from, where it is not the one of its name."""
BLOCKS = {f.__name__: f for f in (why, accuracy, logits, compile_time, head, compile_only, traffic)}
