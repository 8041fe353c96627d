"""Stands in for CMGDB's compiled module, so that its Python part, tests and benchmarks run unchanged on doodl3's engine.

`install()` puts this module where `import CMGDB` looks for its compiled part. Each computation is handed to a process of
`examples/engine_server.rs` (named by the environment variable DOODL3_ENGINE_SERVER), which lives as long as its results
are asked about. Cells have CMGDB's numbers: from left to right in the tree of bisections.

What is left out: parameter spaces and grids as objects, `MorseGraph(file)`, the older `MorseGraphMap` and
`MorseGraphIntvalMap` (`worker.py` makes them of the others), and `ComputeConleyIndex` of a map given cell by cell, which
the engine does not offer, since its maps send cells to boxes of cells. The options that only steer how CMGDB keeps its
graph are taken and have no effect.
"""

import json
import os
import subprocess
import sys

import numpy as np

SERVER = "DOODL3_ENGINE_SERVER"

__all__ = [
    "ComputeConleyIndexForCells",
    "ComputeConleyMorseGraph",
    "ComputeMorseGraph",
    "MapGraph",
    "Model",
    "MorseDirectedPathCells",
    "MorseGraph",
    "MorseReachabilityMasks",
    "MorseSingletonReachability",
]


def install():
    """Makes this the compiled part of CMGDB, which must not have been imported yet."""
    assert "CMGDB" not in sys.modules, "CMGDB was imported with its own core"
    sys.modules["CMGDB._cmgdb"] = sys.modules[__name__]
    import CMGDB

    # an import would bind it
    CMGDB._cmgdb = sys.modules[__name__]


class Model:
    """A box map on a box: Model([subdivisions | min, max | min, max, init, limit], lower, upper[, periodic][, F])."""

    def __init__(self, *arguments):
        numbers = [argument for argument in arguments if isinstance(argument, int)]
        rest = list(arguments[len(numbers) :])
        self.function = rest.pop() if callable(rest[-1]) else None
        self.lower, self.upper = (list(map(float, corner)) for corner in rest[:2])
        self.periodic = list(map(bool, rest[2])) if len(rest) > 2 else [False] * len(self.lower)
        if len(numbers) == 1:
            numbers *= 3  # a uniform grid
        self.min, self.max, self.init, self.limit = (numbers + [0, 10000][len(numbers) - 2 :])[:4]
        self.batch = None

    def set_batch_map(self, batch):
        if self.function is None:
            raise RuntimeError("a batch map is for a model with a map")
        self.batch = batch

    def images(self, cells):
        """The images of cells; both are arrays of n rows with lower and upper corners."""
        if self.batch is None:
            found = [self.function(cell) for cell in cells.tolist()]
        else:
            cells.setflags(write=False)
            found = self.batch(cells)
        try:
            images = np.asarray(found, dtype=float)
        except (TypeError, ValueError) as error:
            raise RuntimeError(f"the map's answer is no array of numbers: {error}") from error
        if images.shape != cells.shape:
            raise RuntimeError(f"the map's answer has shape {images.shape}, not {cells.shape}")
        return images


class Engine:
    """A process that has computed a Morse graph, and answers questions about it."""

    #: Questions asked of all engines so far.
    asked = 0

    def __init__(self, model, with_indices, chunk):
        if model.function is None:
            raise RuntimeError("the model has no map")
        # its own errors are told in its answers; a panic is shown
        self.process = subprocess.Popen([os.environ[SERVER]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.solution = self.ask(
            {
                "lower": model.lower,
                "upper": model.upper,
                "periodic": model.periodic,
                "init": model.init,
                "min": model.min,
                "max": model.max,
                "limit": model.limit,
                "index": with_indices,
                "chunk": chunk or 1 << 16,
            },
            model,
        )

    def ask(self, question, model=None):
        """The answer to a question; the map of `model` is evaluated for it as needed."""
        Engine.asked += 1
        self.send(question)
        failure = None
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("the engine's process ended")
            answer = json.loads(line)
            if not (isinstance(answer, dict) and "images" in answer):
                break
            count, width = answer["images"], 2 * len(model.lower)
            cells = np.frombuffer(self.process.stdout.read(8 * count * width), dtype="<f8").reshape(count, width)
            try:
                images = model.images(cells.copy())
            except Exception as error:  # whatever a map may raise: told to the caller below
                failure = error
                self.send({"stop": True})
            else:
                self.send({"images": count}, images.astype("<f8").tobytes())
        if failure is not None:
            raise failure
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def send(self, message, numbers=b""):
        self.process.stdin.write(json.dumps(message).encode() + b"\n" + numbers)
        self.process.stdin.flush()

    def __del__(self):
        if hasattr(self, "process"):
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()


class MorseGraph:
    def __init__(self, engine):
        self._engine = engine
        solution = engine.solution
        self._sets, self._order, self._edges = solution["sets"], solution["order"], solution["edges"]
        self._indices = solution["indices"]

    def num_vertices(self):
        return len(self._sets)

    def vertices(self):
        return list(range(len(self._sets)))

    def edges_unreduced(self):
        return [tuple(edge) for edge in self._order]

    def edges(self):
        return [tuple(edge) for edge in self._edges]

    def adjacencies_unreduced(self, vertex):
        return [to for start, to in self._order if start == vertex]

    def adjacencies(self, vertex):
        return [to for start, to in self._edges if start == vertex]

    def morse_set(self, vertex):
        return list(self._sets[vertex])

    def morse_set_boxes(self, vertex):
        return self._engine.ask({"boxes": self._sets[vertex]})

    def phase_space_box(self, cell):
        return self._engine.ask({"boxes": [int(cell)]})[0]

    def annotations(self, vertex):
        return list(self._indices[vertex]) if self._indices else []


class MapGraph:
    """The graph of the map on the final grid. The engine keeps it anyway; what is cached here are Python lists."""

    def __init__(self, engine):
        self._engine = engine
        self._rows = None

    def num_vertices(self):
        return self._engine.solution["cells"]

    def adjacencies(self, cell):
        return list(self._rows[cell]) if self._rows else self._engine.ask({"successors": [int(cell)]})[0]

    def build_cache(self):
        if self._rows is None:
            self._rows = self._engine.ask({"successors": list(range(self.num_vertices()))})

    def has_cache(self):
        return self._rows is not None

    def num_cached_edges(self):
        return sum(map(len, self._rows)) if self._rows else 0


def ComputeMorseGraph(model, *, batch_chunk_size=65536, cache_map_graph=False, with_indices=False, **_):
    engine = Engine(model, with_indices, batch_chunk_size)
    map_graph = MapGraph(engine)
    if cache_map_graph:
        map_graph.build_cache()
    return MorseGraph(engine), map_graph


def ComputeConleyMorseGraph(model, **options):
    return ComputeMorseGraph(model, with_indices=True, **options)


def ComputeConleyIndexForCells(model, morse_graph, cells):
    return morse_graph._engine.ask({"index": [int(cell) for cell in cells]}, model)


def reachable(map_graph, cells):
    return map_graph._engine.ask({"reachable": [int(cell) for cell in cells]})


def MorseReachabilityMasks(map_graph, morse_graph, cells):
    return np.array([sum(1 << node for node in nodes) for nodes in reachable(map_graph, cells)], dtype=np.uint64)


def MorseSingletonReachability(map_graph, morse_graph, cells):
    summary = [nodes[0] if len(nodes) == 1 else -2 if nodes else -1 for nodes in reachable(map_graph, cells)]
    return np.array(summary, dtype=np.int32)


def MorseDirectedPathCells(map_graph, morse_graph, sources, targets):
    ends = [[int(node) for node in nodes] for nodes in (sources, targets)]
    return np.array(map_graph._engine.ask({"between": ends}), dtype=np.uint64)
