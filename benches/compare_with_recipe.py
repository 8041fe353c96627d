#!/usr/bin/env python3
"""Times the analysis of Eslami et al. 2021 by doodl3 beside the published recipe, on the same pairs, in one run.

    python3 benches/compare_with_recipe.py [--rounds 3] [--scalar-20] [--jobs WEIGHTS/SUBDIVISIONS ...]

The recipe is a Gaussian process of scikit-learn, `RBF(0.5, (0.01, 2)) + WhiteKernel()`, from the weights of a hundred
networks after the second epoch to those after the last; half a unit of margin around the data; boxes around the images
of the corners of cells, padded by one cell; CMGDB's `ComputeMorseGraph`. It runs twice: with one prediction for each
corner, as the published code has it, and with all corners of many cells predicted together (CMGDB's batched map).
The networks are the softmax regressions on Iris of `examples/paper/train.py`, 450 epochs each, and the weights those of
largest spread after the last. doodl3 (`examples/paper_analysis.rs`) does the same and seeks the order retraction on top,
for which the recipe needs a program that is not public.

CMGDB, NumPy and scikit-learn come from PyPI into an environment of their own (target/peers). Each program is one process
on one thread; the median of the rounds counts. The recipe corner by corner runs once, and at 20 subdivisions, where it
takes some twenty minutes, only with --scalar-20. Prints two Markdown tables: whole processes, and without what Python
takes to start and to import (fit and Morse graph, doodl3's with the order retraction). *Same* says whether cells of all
Morse sets and their order agree, each by its own hyperparameters; where they do not, doodl3 is asked once more with
those of scikit-learn.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from peers import ROOT, example, measured, median, python

JOBS = ["2/15", "2/20", "3/15", "4/15", "5/15"]

PAIRS = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from train import train
first, last = (weights.reshape(len(weights), -1) for weights in train())
for dimension in range(2, 6):
    chosen = np.argsort(-last.std(0), kind="stable")[:dimension]
    np.savetxt(f"{sys.argv[2]}/{dimension}.txt", np.hstack([first[:, chosen], last[:, chosen]]), fmt="%.17g")
"""

RECIPE = """
import hashlib, json, sys, time, warnings
import CMGDB, numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
warnings.simplefilter("ignore")
file, subdivisions, style = sys.argv[1], int(sys.argv[2]), sys.argv[3]
pairs = np.loadtxt(file)
dimension = pairs.shape[1] // 2
x, y = pairs[:, :dimension], pairs[:, dimension:]

started = time.perf_counter()
process = GaussianProcessRegressor(kernel=RBF(0.5, (0.01, 2)) + WhiteKernel()).fit(x, y)
fitted = time.perf_counter()
lower = (np.minimum(x.min(0), y.min(0)) - 0.5).tolist()
upper = (np.maximum(x.max(0), y.max(0)) + 0.5).tolist()
corner = lambda w: process.predict([w])[0].tolist()
model = CMGDB.Model(subdivisions, lower, upper, lambda rect: CMGDB.BoxMap(corner, rect, padding=True))
if style == "batched":
    model.set_batch_map(lambda rects: CMGDB.BoxMapBatch(process.predict, rects, padding=True))
graph, _ = CMGDB.ComputeMorseGraph(model)
done = time.perf_counter()

# CMGDB numbers cells by the bits of their coordinates in turn; doodl3 row by row
along = [subdivisions // dimension + (axis < subdivisions % dimension) for axis in range(dimension)]
def row_by_row(cells):
    cells = np.asarray(cells, dtype=np.int64)
    coordinates = [np.zeros_like(cells) for _ in range(dimension)]
    for depth in range(subdivisions):
        bit = cells >> (subdivisions - 1 - depth) & 1
        coordinates[depth % dimension] = coordinates[depth % dimension] << 1 | bit
    number = np.zeros_like(cells)
    for axis in range(dimension):
        number = number << along[axis] | coordinates[axis]
    return np.sort(number)
sets = {v: row_by_row(graph.morse_set(v)) for v in graph.vertices()}
ranks = {v: rank for rank, v in enumerate(sorted(sets, key=lambda v: sets[v][0]))}
digest = lambda cells: hashlib.sha256(",".join(map(str, cells.tolist())).encode()).hexdigest()[:8]
kernel = process.kernel_
print(json.dumps({
    "length_scale": float(kernel.k1.length_scale),
    "noise_variance": float(kernel.k2.noise_level),
    "log_marginal_likelihood": float(process.log_marginal_likelihood_value_),
    "seconds": {"fit": fitted - started, "Morse graph": done - fitted},
    "Morse sets": [[len(sets[v]), digest(sets[v])] for v in ranks],
    "order": sorted([ranks[a], ranks[b]] for a, b in graph.edges()),
}))
"""


class Runs:
    """The rounds of one program on one job."""

    def __init__(self, rounds):
        self.rounds = rounds
        self.found = json.loads(rounds[0].output)
        fields = ("seconds", "processor", "megabytes")
        self.seconds, self.processor, self.megabytes = (median(rounds, field) for field in fields)

    def part(self, *names):
        """Median of the seconds that these parts took together; of all parts where none is named."""
        rounds = [json.loads(run.output)["seconds"] for run in self.rounds]
        each = sorted(sum(seconds for name, seconds in parts.items() if not names or name in names) for parts in rounds)
        return each[len(each) // 2]

    @property
    def dynamics(self):
        return self.found["Morse sets"], self.found["order"]


def times(slow, fast):
    return "" if slow is None else f"{slow / fast:,.0f}"


def seconds(value):
    return "" if value is None else f"{value:,.1f} s" if value >= 1 else f"{1e3 * value:,.1f} ms"


def agreement(theirs, ours, ask):
    """Whether both found the same, with `ask(hyperparameters)` for what ours finds by theirs."""
    if theirs.dynamics == ours.dynamics:
        return "yes"
    again = ask([theirs.found[name] for name in ("length_scale", "noise_variance")])
    if theirs.dynamics == again.dynamics:
        return "with the same hyperparameters"
    return "no"


def sizes(runs):
    return " ".join(str(size) for size, _ in runs.found["Morse sets"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS, metavar="WEIGHTS/SUBDIVISIONS")
    parser.add_argument("--scalar-20", action="store_true", help="corner by corner at 20 subdivisions too (20 minutes)")
    parser.add_argument("--no-scalar", action="store_true", help="never corner by corner")
    parser.add_argument("--keep", metavar="FOLDER", help="leave the pairs there, and what the recipe finds")
    parser.add_argument("--binary", type=Path, help="a paper_analysis that is built already")
    parser.add_argument("--peer", help="a Python with CMGDB, NumPy and scikit-learn")
    options = parser.parse_args()
    binary = str(options.binary or example("paper_analysis"))
    peer = options.peer or python()
    whole, inside, notes = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or temporary
        Path(folder).mkdir(parents=True, exist_ok=True)
        measured([peer, "-c", PAIRS, str(ROOT / "examples/paper"), folder])
        for job in options.jobs:
            dimension, subdivisions = job.split("/")
            pairs = f"{folder}/{dimension}.txt"

            def recipe(style, rounds):
                return Runs([measured([peer, "-c", RECIPE, pairs, subdivisions, style]) for _ in range(rounds)])

            def analysis(hyperparameters=(), rounds=1):
                command = [binary, pairs, subdivisions, "1", *map(repr, hyperparameters)]
                return Runs([measured(command) for _ in range(rounds)])

            with_scalar = not options.no_scalar and (subdivisions != "20" or options.scalar_20)
            scalar = recipe("scalar", 1) if with_scalar else None
            # what takes milliseconds is timed more often
            batched, ours = recipe("batched", options.rounds), analysis(rounds=5 * options.rounds)
            if scalar and scalar.dynamics != batched.dynamics:
                sys.exit(f"{job}: the recipe contradicts itself: {scalar.found} against {batched.found}")
            if options.keep:
                found = {name: value for name, value in batched.found.items() if name != "seconds"}
                Path(f"{folder}/{dimension}_{subdivisions}.json").write_text(json.dumps(found) + "\n")
            same = agreement(batched, ours, analysis)
            name = f"{dimension} weights, {subdivisions} subdivisions"
            alone = scalar and scalar.seconds
            whole.append(
                f"| {name} | {seconds(alone)} | {seconds(batched.seconds)} | {seconds(ours.seconds)} "
                f"| {times(alone, ours.seconds)} | {times(batched.seconds, ours.seconds)} "
                f"| {times(scalar and scalar.processor, ours.processor)} | {times(batched.processor, ours.processor)} "
                f"| {ours.megabytes:.0f} of {batched.megabytes:.0f} MB | {sizes(ours)} | {same} |"
            )
            alone = scalar and scalar.part()
            inside.append(
                f"| {name} | {seconds(alone)} | {seconds(batched.part())} | {seconds(ours.part())} "
                f"| {times(alone, ours.part())} | {times(batched.part(), ours.part())} "
                f"| {seconds(batched.part('fit'))} | {seconds(ours.part('fit'))} | {seconds(ours.part('map'))} "
                f"| {seconds(ours.part('Morse graph'))} | {seconds(ours.part('order retraction'))} |"
            )
            for who, runs in [("scikit-learn", batched), ("doodl3", ours)]:
                found = [runs.found[name] for name in ("length_scale", "noise_variance", "log_marginal_likelihood")]
                notes.append(f"| {name} | {who} | {found[0]:.7g} | {found[1]:.7g} | {found[2]:.7f} | {sizes(runs)} |")
    print("| whole processes | corner by corner | batched | doodl3 | times as fast | than batched "
          "| by processor time | than batched | memory | cells of Morse sets | same |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(whole))
    print("\n| without start | corner by corner | batched | doodl3 | times as fast | than batched "
          "| scikit-learn's fit | doodl3's fit | map | Morse graph | order retraction |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(inside))
    print("\n| hyperparameters | of | length scale | noise variance | log likelihood | cells of Morse sets |")
    print("|---|---|---|---|---|---|")
    print("\n".join(notes))


if __name__ == "__main__":
    main()
