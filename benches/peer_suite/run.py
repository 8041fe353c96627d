#!/usr/bin/env python3
"""Runs CMGDB's own test-suite, benchmark scenarios and examples on doodl3's engine, and says what differs and why.

    python3 benches/peer_suite/run.py [--only WORD ...] [--heavy] [--server PATH]

Fetches CMGDB from PyPI, its package and its source distribution (with tests, scenarios and their frozen results, and files
of pairs), into target/peers. Its Python part stays as it is; `stand_in.py` takes the place of its compiled part. Then

* each test of its suite must end on the engine as it does on CMGDB's core;
* each scenario of its benchmarks must have the figures that its `references.json` holds;
* each example (`examples.py`) must have the figures that CMGDB's core finds in the same run:

number of Morse sets, their sizes and first cells, the whole order, Conley indices, cells of the final grid. Where something
differs, CMGDB's own graph on its own final grid is asked (`worker.py audit`) which of both is right; what it does not
explain must stand in `differences.py`. The last line counts; exit code 1 if anything is left unexplained.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import differences
import peers

VERSION = "1.5.2"
FIGURES = {
    "num_vertices": "number of Morse sets",
    "morse_set_sizes": "their sizes",
    "morse_set_min_box": "their first cells",
    "edges_unreduced": "order",
    "phase_space_size": "cells",
}


def source():
    """The unpacked source distribution of CMGDB, fetched at first use."""
    folder = peers.PEERS / f"cmgdb-{VERSION}"
    if not folder.exists():
        pip = [peers.python(), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--only-binary=:all:", "pytest==8.4.2"], check=True)
        with tempfile.TemporaryDirectory() as scratch:
            fetch = ["download", "--quiet", "--no-deps", "--no-binary=CMGDB", "--dest", scratch, f"CMGDB=={VERSION}"]
            subprocess.run([*pip, *fetch], check=True)
            with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
                archive.extractall(peers.PEERS, filter="data")
    return folder


class Suite:
    def __init__(self, server):
        self.server, self.source = server, source()
        self.same = self.explained = self.unexplained = 0

    def work(self, core, *what):
        """What `worker.py` finds on a core."""
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "found.json"
            command = [peers.python(), HERE / "worker.py", core, self.source, output, *what]
            one = {name: "1" for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]}
            environment = {**os.environ, **one, "DOODL3_ENGINE_SERVER": str(self.server), "MPLBACKEND": "Agg"}
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
            process = subprocess.run(map(str, command), env=environment, capture_output=True, text=True)
            if not output.exists():
                sys.exit(f"failed: {' '.join(map(str, command))}\n{process.stdout}\n{process.stderr}")
            return json.loads(output.read_text())

    def tell(self, name, reasons, unexplained):
        """Prints and counts the outcome of one job."""
        if unexplained:
            self.unexplained += 1
            verdict = "DIFFERS"
        elif reasons:
            self.explained += 1
            verdict = "explained"
        else:
            self.same += 1
            verdict = "same"
        print(f"{verdict:<10} {name}", flush=True)
        for line in [*reasons, *unexplained]:
            print(f"{'':<10}   {line}", flush=True)

    def tests(self):
        theirs, ours = self.work("peer", "tests"), self.work("engine", "tests")
        for name in sorted(theirs.keys() | ours.keys()):
            there, here = (found.get(name, {"outcome": "missing", "message": ""}) for found in (theirs, ours))
            label = name if here.get("asked") or here["outcome"] != "passed" else f"{name} (asks no core)"
            if there["outcome"] == here["outcome"]:
                self.tell(label, [], [])
            elif name in differences.TESTS:
                self.tell(label, [differences.TESTS[name]], [])
            else:
                self.tell(label, [], [f"{there['outcome']} there, {here['outcome']} here: {here['message']}"])

    def figures(self, name, theirs):
        """Compares the figures of one job, an entry for each Morse graph, with those of the engine."""
        ours = self.work("engine", "figures", name)
        if [type(found) for found in theirs] != [type(found) for found in ours]:
            self.tell(name, [], [f"{len(theirs)} Morse graphs there, {len(ours)} here, or a map that refuses a cell"])
            return
        for there, here in zip(theirs, ours):
            if isinstance(there, dict):
                # the indices are left out of them where all are undefined, and of the frozen ones sometimes the cells
                if "conley_indices" in there.keys() | here.keys():
                    for found in (there, here):
                        found.setdefault("conley_indices", [[]] * found["num_vertices"])
                there.setdefault("phase_space_size", here["phase_space_size"])
        reasons, unexplained = [], []
        if theirs != ours:
            for there, here, audit in zip(theirs, ours, self.work("peer", "audit", name)):
                self.explain(name, there, here, audit, reasons, unexplained)
        self.tell(name, reasons, unexplained)

    def explain(self, name, there, here, audit, reasons, unexplained):
        """Says why the figures of a Morse graph differ."""
        unlike = [key for key in FIGURES if there[key] != here[key]]
        own = lambda key: differences.FIGURES.get((name, key), (None, None))
        if all(audit[key] == here[key] for key in unlike):
            merged = there["num_vertices"] - audit["num_vertices"]
            edges = [{tuple(edge) for edge in found["edges_unreduced"]} for found in (there, audit)]
            if merged:
                reasons.append(f"{merged + 1} of its Morse sets reach each other on its own final grid, and are one")
            elif edges[1] < edges[0]:
                kept = f"only {len(edges[1])} of its {len(edges[0])} connections are on its own final grid"
                reasons.append(f"{kept}: the others are inherited from coarse ones")
            elif unlike:
                unexplained.append("its own final graph says otherwise")
        else:
            for key in unlike:
                value, reason = own(key)
                if value == here[key]:
                    reasons.append(f"{FIGURES[key]}: {there[key]} there, {value} here: {reason}")
                else:
                    unexplained.append(f"{FIGURES[key]}: {there[key]} there, {here[key]} here")
        if "conley_indices" in there:
            self.explain_indices(name, there, here, reasons, unexplained)

    def explain_indices(self, name, there, here, reasons, unexplained):
        """Says why the Conley indices of those Morse sets differ that are the same."""

        def by_set(found):
            return dict(zip(zip(found["morse_set_min_box"], found["morse_set_sizes"]), found["conley_indices"]))

        known = by_set(here)
        for (first, size), index in by_set(there).items():
            own = known.get((first, size), index)
            if own != index:
                value, reason = differences.INDICES.get((name, first), (None, None))
                told = [f"({', '.join(strings)})" if strings else "undefined" for strings in (index, own)]
                line = f"index of the set of {size} cells: {told[0]} there, {told[1]} here"
                if value == own:
                    reasons.append(f"{line}: {reason}")
                else:
                    unexplained.append(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="jobs with one of these in their names")
    parser.add_argument("--heavy", action="store_true", help="the large scenarios too")
    parser.add_argument("--server", type=Path, help="an engine_server that is built already")
    options = parser.parse_args()
    server = options.server
    if server is None:
        # the development profile, in which overflows and broken assumptions are told
        build = ["cargo", "build", "--locked", "--no-default-features", "--example", "engine_server"]
        subprocess.run(build, cwd=peers.ROOT, check=True)
        server = peers.ROOT / "target/debug/examples/engine_server"
    suite = Suite(server.resolve())
    wanted = lambda name: any(word in name for word in options.only)

    if wanted("tests"):
        suite.tests()
    references = json.loads((suite.source / "benchmarks" / "references.json").read_text())
    sizes = suite.work("peer", "names")
    for name, kind in sizes["scenarios"].items():
        if wanted(name) and (options.heavy or kind == "quick") and name not in differences.TOO_LARGE:
            suite.figures(name, [references[name]])
    for name in sizes["examples"]:
        if wanted(name):
            suite.figures(name, suite.work("peer", "figures", name))

    print(f"{suite.same} the same, {suite.explained} differ and are explained, {suite.unexplained} unexplained")
    sys.exit(1 if suite.unexplained else 0)


if __name__ == "__main__":
    main()
