#!/usr/bin/env python3
"""Times doodl3's engine beside CMGDB (by its fastest path, batches of boxes in NumPy) on the same jobs, in one run.

    python3 benches/compare_with_cmgdb.py [--rounds 3] [--jobs NAME ...] [--binary PATH]

Installs CMGDB from PyPI into an environment of its own (target/peers), builds `examples/engine_jobs.rs`, and runs both in
turn, each as a whole process on one thread; doodl3 then once more on two threads. Prints time, processor time and
memory of each and their ratios, as a Markdown table, and whether both found the same Morse sets and Conley indices. The
median of the rounds counts.
"""

import argparse
from pathlib import Path

from peers import example, measured, median, python

JOBS = {
    "uniform Leslie 2-D, 20": ("leslie2", "20"),
    "uniform Leslie 2-D, 22": ("leslie2", "22"),
    "uniform Leslie 2-D, 24": ("leslie2", "24"),
    "uniform Leslie 3-D, 21": ("leslie3", "21"),
    "uniform Leslie 3-D, 24": ("leslie3", "24"),
    "adaptive Leslie 2-D, 24": ("leslie2", "24/24"),
    "Conley indices, Leslie 2-D, 20/30": ("leslie2-index", "20/30"),
    "Conley indices, Leslie 3-D, 18/21": ("leslie3-index", "18/21"),
    "Conley indices, Newton, 14": ("newton-index", "14"),
}

PEER = """
import sys
import CMGDB, numpy as np
job, subdivisions = sys.argv[1:]
name = job.removesuffix("-index")
def leslie2(x):
    return np.column_stack([(19.6*x[:,0] + 23.68*x[:,1]) * np.exp(-0.1*(x[:,0] + x[:,1])), 0.7*x[:,0]])
def leslie3(x):
    s = x[:,0] + x[:,1] + x[:,2]
    return np.column_stack([(19.6*x[:,0] + 23.68*x[:,1] + 19.6*x[:,2]) * np.exp(-0.1*s), 0.7*x[:,0], 0.7*x[:,1]])
def newton(z):
    x, y = z[:,0], z[:,1]
    a, b = x*x - y*y, 2*x*y
    m = a*a + b*b
    return np.column_stack([(2*x + a/m)/3, (2*y - b/m)/3])
f, lower, upper, padding = {
    "leslie2": (leslie2, [-.001]*2, [90., 70.], True),
    "leslie3": (leslie3, [-.001]*3, [90., 65., 45.], False),
    "newton": (newton, [-2.]*2, [2.1, 2.05], True),
}[name]
scalar = lambda rect: CMGDB.BoxMap(lambda x: list(f(np.array([x]))[0]), rect, padding=padding)
if "/" in subdivisions:
    low, high = map(int, subdivisions.split("/"))
    model = CMGDB.Model(low, high, lower, upper, scalar)
else:
    model = CMGDB.Model(int(subdivisions), lower, upper, scalar)
model.set_batch_map(lambda rects: CMGDB.BoxMapBatch(f, rects, padding=padding))
compute = CMGDB.ComputeConleyMorseGraph if job.endswith("-index") else CMGDB.ComputeMorseGraph
graph, _ = compute(model)
index = lambda v: "".join(" " + s for s in graph.annotations(v)) if job.endswith("-index") else ""
print(", ".join(sorted(f"{len(graph.morse_set(v))}{index(v)}" for v in graph.vertices())))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="NAME")
    parser.add_argument("--binary", type=Path, help="an engine_jobs that is built already")
    parser.add_argument("--peer", help="a Python with CMGDB and NumPy")
    options = parser.parse_args()
    binary = options.binary or example("engine_jobs")
    peer = options.peer or python()
    print("| job | CMGDB | doodl3 | times as fast | by processor time | memory | share | two threads | same |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.jobs:
        job, subdivisions = JOBS[name]
        theirs, ours, both = [], [], []
        for _ in range(options.rounds):
            theirs.append(measured([peer, "-c", PEER, job, subdivisions]))
            ours.append(measured([str(binary), job, subdivisions, "1"]))
            both.append(measured([str(binary), job, subdivisions, "2"]))
        found = theirs[0].output, ours[0].output
        same = "yes" if set(found) == {both[0].output} else f"no: {found[0]} against {found[1]}"
        wall, cpu, memory = (
            [median(rounds, field) for rounds in (theirs, ours)] for field in ("seconds", "processor", "megabytes")
        )
        print(
            f"| {name} | {wall[0]:.2f} s | {wall[1]:.3f} s | {wall[0] / wall[1]:.0f} | {cpu[0] / cpu[1]:.0f} "
            f"| {memory[1]:.0f} of {memory[0]:.0f} MB | {memory[1] / memory[0]:.2f} "
            f"| {wall[1] / median(both, 'seconds'):.2f} times | {same} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
