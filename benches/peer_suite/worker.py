"""Runs a part of CMGDB's suite on one of two cores, its own or doodl3's engine, in a process of its own.

    python worker.py peer|engine SOURCE OUTPUT tests|names
    python worker.py peer|engine SOURCE OUTPUT figures|audit NAME

SOURCE is the unpacked source distribution of CMGDB. What was found goes to OUTPUT as JSON: the outcome of each test, the
names of scenarios and examples, or the figures of the Morse graphs that one of these computes. `audit`, on the peer's
core, tells what its final graphs say.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

CORE, SOURCE, OUTPUT, WHAT, *NAMES = sys.argv[1:]
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(SOURCE) / "benchmarks"))
if CORE == "engine":
    import stand_in

    stand_in.install()

import benchmark  # the peer's: its scenarios, and what it compares of a Morse graph
import CMGDB
import examples
import numpy as np


def tests():
    import pytest

    outcomes = {}

    class Recorder:
        def pytest_runtest_protocol(self, item):
            outcomes[item.nodeid] = {"outcome": "", "message": "", "asked": self.asked()}

        def pytest_runtest_logreport(self, report):
            record = outcomes[report.nodeid]
            if report.when == "call" or report.outcome != "passed":
                record["outcome"] = report.outcome
                record["message"] = report.longreprtext.splitlines()[-1] if report.longreprtext else ""
            if report.when == "teardown":
                record["asked"] = self.asked() - record["asked"]

        def asked(self):
            return stand_in.Engine.asked if CORE == "engine" else 0

    pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", SOURCE, str(Path(SOURCE) / "tests")], [Recorder()])
    return outcomes


def figures_of(compute, figures):
    """Runs `compute`, and returns the figures of each pair of graphs that it made on the way."""
    made = []

    def recording(function):
        def record(*arguments, **options):
            made.append(function(*arguments, **options))
            return made[-1]

        return record

    for name in ["ComputeMorseGraph", "ComputeConleyMorseGraph"]:
        setattr(CMGDB, name, recording(getattr(CMGDB, name)))
    # the older interface returns no graph of the map: made of the newer one
    for name in ["MorseGraphMap", "MorseGraphIntvalMap"]:
        setattr(CMGDB, name, lambda *arguments, name=name: examples.without_file(name, arguments)[0])
    try:
        compute()
    except ValueError as error:  # of a map that refuses a cell
        return [type(error).__name__]
    return [figures(*pair) for pair in made]


def compute(name):
    if name in benchmark.SCENARIOS:
        return benchmark.SCENARIOS[name]["run"]
    return examples.EXAMPLES[name]


def audit(morse_graph, map_graph):
    """The figures as the peer's own final graph has them: Morse sets that reach each other made one, all order anew."""
    map_graph.build_cache()
    rows = [map_graph.adjacencies(cell) for cell in range(map_graph.num_vertices())]
    lengths = np.array([len(row) for row in rows])
    targets = np.array([cell for row in rows for cell in row], dtype=np.int64)
    starts = (np.cumsum(lengths) - lengths)[lengths > 0]
    sets = sorted(sorted(morse_graph.morse_set(node)) for node in morse_graph.vertices())
    reach = np.zeros((len(rows), len(sets) // 64 + 1), dtype=np.uint64)
    for number, cells in enumerate(sets):
        reach[cells, number // 64] |= np.uint64(1 << number % 64)
    while True:
        further = reach.copy()
        further[lengths > 0] |= np.bitwise_or.reduceat(reach[targets], starts, axis=0)
        if np.array_equal(further, reach):
            break
        reach = further
    reaches = [[int(reach[cells[0], to // 64]) >> to % 64 & 1 for to in range(len(sets))] for cells in sets]
    one = [min(to for to, there in enumerate(row) if there and reaches[to][at]) for at, row in enumerate(reaches)]
    kept = sorted(set(one))
    merged = [sum(len(cells) for cells, with_set in zip(sets, one) if with_set == first) for first in kept]
    return {
        "num_vertices": len(kept),
        "morse_set_sizes": merged,
        "morse_set_min_box": [sets[first][0] for first in kept],
        "edges_unreduced": sorted(
            [a, b] for a, start in enumerate(kept) for b, end in enumerate(kept) if a != b and reaches[start][end]
        ),
        "phase_space_size": len(rows),
    }


def main():
    if WHAT == "tests":
        found = tests()
    elif WHAT == "names":
        found = {
            "scenarios": {name: scenario["suite"] for name, scenario in benchmark.SCENARIOS.items()},
            "examples": list(examples.EXAMPLES),
        }
    else:
        os.chdir(tempfile.mkdtemp())
        figures = audit if WHAT == "audit" else benchmark.extract_reference
        examples.SOURCE = Path(SOURCE)
        found = figures_of(compute(NAMES[0]), figures)
    Path(OUTPUT).write_text(json.dumps(found))


main()
