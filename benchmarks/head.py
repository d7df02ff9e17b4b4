"""Time, memory and half-precision errors of the linear head, beside logits that are held.

Time is the median over the rounds, in each of which every program runs once, in a random order. Its
ratio is to the three products of the same round that any implementation needs: x W, dz W' and
x' dz. The targets for time are meant for N=2048 D=512 V=32768. Memory is in MiB beside arguments
and results, as the compiler states it; for its growth, programs are only compiled. An error is the
largest error against float64 over the largest component, and the worst of five draws. The spread is
the standard deviation of the logits. At a spread of 1 only the label's entry of dz matters, and
every program rounds it in the same way.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._head_programs import ADAPTED, ANY, HEADS, MASKED, Timed, drawn
from benchmarks._peers import LEFT_OUT, TOKAMAX, head, held, in_chunks, of_optax
from benchmarks._records import Record, find, records, target
from benchmarks._running import MIB, Benchmark, in_rounds, ratios, temp_bytes, timed, track

FULL, SMALL, HALF = (2048, 512, 32768), (1024, 128, 32768), (512, 256, 4096)
TEMP_TARGET = 0.25  # of the temporary memory with logits that are held
MODELS = {
    "xent_jax head": head,
    "xent_jax head, chunks of 64 tokens": in_chunks(64),
    "logits, optax": held(of_optax),
    "logits, cast to float32, optax": held(of_optax, jnp.float32),
} | TOKAMAX
SPREADS = 1, 3  # standard deviations of the logits


def times(study: str, programs: Timed, shape, least: int, seconds: float) -> list[Record]:
    """Compiles the programs and runs rounds of them; the ratios are to the first."""
    arguments, runs, temps = drawn(shape), [], []
    for program, _ in track(programs.values(), f"compile, {study}"):
        compiled = jax.jit(program).lower(*arguments).compile()
        temps.append(temp_bytes(compiled) / MIB)
        runs.append(functools.partial(timed, compiled, arguments))
        runs[-1]()  # warm up
    print(f"rounds, {study}: {seconds} s", flush=True)
    found = in_rounds(runs, least, seconds).T
    out = []
    for (name, (_, limit)), own, temp in zip(programs.items(), found, temps, strict=True):
        numbers = {"time": float(np.median(own))} | ratios(own, found[0])
        numbers |= {"temp": temp, "rounds": len(own)}
        out += records(study, name, numbers, {"ratio": limit}, dtype="float32", shape=shape)
    return out


def growth(axis: str) -> list[Record]:
    """Returns the MiB of the head and of logits that are held, from programs that do not run."""
    shapes = [(2**i, *FULL[1:]) for i in range(10, 16)]
    if axis == "V":
        shapes = [(*FULL[:2], 2**i) for i in range(13, 18)]
    out = []
    for n, d, v in track(shapes, f"memory against {axis}"):
        specs = ((n, d), "float32"), ((d, v), "float32"), ((n,), "int32")
        arguments = [jax.ShapeDtypeStruct(*spec) for spec in specs]
        programs = (jax.jit(jax.value_and_grad(loss, (0, 1))) for loss in (head, held(of_optax)))
        temps = (temp_bytes(program.lower(*arguments).compile()) / MIB for program in programs)
        ours, theirs = ({"temp": temp} for temp in temps)
        ours["over optax"] = ours["temp"] / theirs["temp"]
        for name, numbers in {"xent_jax head": ours, "logits, optax": theirs}.items():
            fields = {"dtype": "float32", "shape": (n, d, v)}
            out += records(f"Memory against {axis}", name, numbers, **fields)
    return out


def reference(x, w, y) -> list[np.ndarray]:
    """Returns the loss, dx and dW in float64."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    z, rows = x @ w, np.arange(len(y))
    lse = np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    dz = np.exp(z - lse)
    dz[rows, y] -= 1
    dz /= len(y)
    return [np.mean(lse[:, 0] - z[rows, y]), dz @ w.T, x.T @ dz]


def half_errors(draws: int) -> list[Record]:
    """Returns the worst errors of loss, dx and dW over the draws, by model and spread.

    An error is the largest error over the largest component.
    """
    programs = {name: jax.jit(jax.value_and_grad(loss, (0, 1))) for name, loss in MODELS.items()}
    errors = {(name, spread): np.zeros(3) for name in programs for spread in SPREADS}
    for seed in track(range(draws), "bfloat16"):
        x, unit, y, *_ = drawn(HALF, seed)
        for spread in SPREADS:
            x, w = x.astype(jnp.bfloat16), (spread * unit).astype(jnp.bfloat16)
            wanted = reference(x, w, np.asarray(y))
            for name, program in programs.items():
                loss, gradients = program(x, w, y)
                got = [np.asarray(a, np.float64) for a in (loss, *gradients)]
                pairs = zip(got, wanted, strict=True)
                new = [abs(a - b).max() / abs(b).max() for a, b in pairs]
                errors[name, spread] = np.maximum(errors[name, spread], new)
    out, fields = [], {"unit": "of the largest", "dtype": "bfloat16", "shape": HALF}
    for (name, spread), worst in errors.items():
        numbers = dict(zip(("loss", "dx", "dW"), worst.tolist(), strict=True))
        case = f"spread {spread}"
        out += records("Errors of loss / dx / dW", name, numbers, case=case, **fields)
    return out


def summary(found: list[Record]) -> list[Record]:
    """Returns the targets of time, of memory, and of errors beside those of the peers."""
    timed = [record for record in find(found, metric="ratio") if record.limit]
    lines = [target(f"{record.program}: time", record.value, record.limit) for record in timed]
    (share,) = find(found, study="Memory against N", metric="over optax", shape=FULL)
    what = f"temporary memory over that of held logits, {share.size}"
    lines.append(target(what, share.value, TEMP_TARGET))
    # At the first spread, rounding of the results decides everywhere.
    last = find(found, study="Errors of loss / dx / dW", case=f"spread {SPREADS[-1]}")
    for peer in ("logits, optax", *TOKAMAX):
        for of in ("dx", "dW"):
            (ours,) = find(last, program="xent_jax head", metric=of)
            (theirs,) = find(last, program=peer, metric=of)
            what = f"error in bfloat16 of {of} over that of {peer}, {ours.case}"
            lines.append(target(what, ours.value / theirs.value, 1))
    return lines


def measure(quick: bool) -> list[Record]:
    shape, least, longer, seconds, draws = (SMALL, 2, 8, 3, 1) if quick else (FULL, 3, 200, 45, 5)
    adapted = "A norm, a kernel with an adapter and a soft cap"
    found = times("Time", HEADS, shape, least, longer)
    found += growth("N") + growth("V")
    masked = "Tokens that are left out", MASKED, (8192, 256, 8192)
    found += times(*masked, least, seconds)
    found += times(adapted, ADAPTED, ANY, least, seconds)
    found += half_errors(draws)
    return summary(found) + found


BENCHMARK = Benchmark("head", "The linear head", __doc__, measure, None, LEFT_OUT, True)
if __name__ == "__main__":
    BENCHMARK.main()
