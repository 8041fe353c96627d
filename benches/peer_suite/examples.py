"""The systems of CMGDB's example notebooks, in vectorised form, with the notebooks' domains and subdivisions.

The notebooks are not part of CMGDB's package. Flows are integrated by Runge and Kutta's method with fixed steps, so that
both cores are sure to be given the same map. The Gaussian process has the hyperparameters that scikit-learn finds for the
notebook's kernel and file.
"""

import CMGDB
import numpy as np

#: The unpacked source distribution of CMGDB, for its files of pairs.
SOURCE = None


def boxes(function, mode="corners", padding=True):
    """A box map for many boxes at a time, of a map of points in rows."""
    return lambda rects: CMGDB.BoxMapBatch(function, rects, mode=mode, padding=padding)


def run(batch, lower, upper, *subdivisions, periodic=(), index=False):
    """Computes a Morse graph of a batched box map."""
    scalar = lambda rect: list(batch(np.array([rect]))[0])
    periodic = [list(periodic)] if periodic else []
    model = CMGDB.Model(*subdivisions, list(lower), list(upper), *periodic, scalar)
    model.set_batch_map(batch)
    (CMGDB.ComputeConleyMorseGraph if index else CMGDB.ComputeMorseGraph)(model)


def without_file(name, arguments):
    """What MorseGraphMap and MorseGraphIntvalMap compute, with the graph of the map too."""
    low, high, lower, upper, *rest = arguments
    function = rest[-1] if name == "MorseGraphMap" else interval_leslie(*rest[0])
    return CMGDB.ComputeMorseGraph(CMGDB.Model(low, high, lower, upper, function))


def leslie(x):
    return np.column_stack([(19.6 * x[:, 0] + 23.68 * x[:, 1]) * np.exp(-0.1 * (x[:, 0] + x[:, 1])), 0.7 * x[:, 0]])


def interval_leslie(first=19.6, second=23.68):
    """The Leslie map by interval arithmetic without directed rounding, for many boxes or for one."""

    def enclose(rects):
        x0, y0, x1, y1 = np.asarray(rects, dtype=float).T
        young = [first * x0 + second * y0, first * x1 + second * y1]
        survival = [np.exp(-0.1 * (x1 + y1)), np.exp(-0.1 * (x0 + y0))]
        births = np.stack([a * b for a in young for b in survival])
        return np.array([births.min(axis=0), 0.7 * x0, births.max(axis=0), 0.7 * x1]).T

    return enclose


def product(x):
    return x / (2.0 - x)


def interval_product(rects):
    """The increasing map `product` of intervals, rounded outward."""
    image = product(np.asarray(rects))
    return np.hstack([np.nextafter(image[:, :2], -np.inf), np.nextafter(image[:, 2:], np.inf)])


def flow(field, time, steps):
    """The time-t map of a vector field, by the classical method of Runge and Kutta."""

    def at_end(x):
        h = time / steps
        for _ in range(steps):
            a = field(x)
            b = field(x + h / 2 * a)
            c = field(x + h / 2 * b)
            x = x + h / 6 * (a + 2 * b + 2 * c + field(x + h * c))
        return x

    return at_end


def two_species(x):
    return np.column_stack([x[:, 0] * (2 - x[:, 0] - x[:, 1]), x[:, 1] * (4 * x[:, 0] - x[:, 0] ** 2 - 3)])


def van_der_pol(x):
    return np.column_stack([x[:, 1], (1 - x[:, 0] ** 2) * x[:, 1] - x[:, 0]])


def radial(x):
    """Circles of radius 1, 2, 3 around a fixed point, turning once in 2π."""
    r = np.hypot(x[:, 0], x[:, 1])
    r, angle = flow(lambda r: -r * (r - 1) * (r - 2) * (r - 3), 1.0, 200)(r), np.arctan2(x[:, 1], x[:, 0]) + 1.0
    return np.column_stack([r * np.cos(angle), r * np.sin(angle)])


def lorenz(x):
    a, b, c = x.T
    return np.column_stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])


def clipped(x):
    return np.column_stack([((x[:, 0] - 0.5) ** 3 + 0.5) % 1, np.clip(np.cbrt(x[:, 1] - 0.5) + 0.5, 0, 1)])


def cubes(x):
    return np.column_stack([(x[:, 0] - 1) ** 3 + 1, np.cbrt(x[:, 1] - 1) + 1])


def twisted(x):
    first = (x[:, 0] - 1) ** 3 + 1
    return np.column_stack([first, (np.cbrt(x[:, 1] - 1) + 1) * first])


def halved(x):
    return np.column_stack([0.5 * (x[:, 0] - 1) + 1, 0.5 * np.cbrt(x[:, 1] - 1) + 1])


def torus(x):
    return np.column_stack([(2.0 * x[:, 0] + 3.0 * x[:, 1]) % 1, (0.5 * x[:, 0] + 0.3 * x[:, 1]) % 1])


def failing(x):
    """Halves, but not near its fixed point."""
    return np.where(np.abs(x) < 0.1, np.nan, 0.5 * x)


def from_data(subdivisions, **options):
    """Two thousand random points and their images; cells without any are treated as the options say."""
    rng = np.random.RandomState(37)
    x = rng.uniform([0.0, 0.0], [1.0, 1.0], size=(2000, 2))
    batch = CMGDB.BoxMapData(x, product(x), **options).batch
    run(lambda rects: np.array(batch(rects)), [0, 0], [1, 1], *subdivisions)


def gaussian_process(subdivisions):
    pairs = np.loadtxt(SOURCE / "examples" / "PO_50.dat")
    start, end = pairs[:, :2], pairs[:, 2:]
    length, noise = HYPERPARAMETERS

    def kernel(a, b):
        return np.exp(-((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2) / (2 * length**2))

    weights = np.linalg.solve(kernel(start, start) + noise * np.eye(len(start)), end)
    run(boxes(lambda x: kernel(x, start) @ weights), [-2, -2], [2, 2], *subdivisions)


#: Length scale and noise variance that scikit-learn 1.9.1 finds for PO_50.dat.
HYPERPARAMETERS = (1.13571999, 0.03154063)

LESLIE = ([-0.001, -0.001], [90.0, 70.0])
UNIT = ([0.0, 0.0], [1.0, 1.0])
LARGER = ([0.0, 0.0], [1.2, 1.2])
DOUBLE = ([0.0, 0.0], [2.0, 2.0])

EXAMPLES = {
    "Examples: Leslie, interval arithmetic": lambda: run(interval_leslie(), *LESLIE, 20, 30),
    "Examples: Leslie, corners": lambda: run(boxes(leslie, padding=False), *LESLIE, 20, 30),
    "Examples: Leslie, corners and padding": lambda: run(boxes(leslie), *LESLIE, 20, 30),
    "Examples: Leslie, centre and padding": lambda: run(boxes(leslie, mode="center"), *LESLIE, 20, 30),
    "Examples: Leslie, uniform": lambda: run(boxes(leslie), *LESLIE, 20),
    "Examples: logistic": lambda: run(boxes(lambda x: 1.4 * x * (1 - x)), [-1.0], [1.0], 10),
    "Conley_Index: Leslie": lambda: run(boxes(leslie), *LESLIE, 20, 30, index=True),
    "Conley_Index: Leslie, intervals": lambda: run(interval_leslie(), *LESLIE, 20, 30, 4, 10000, index=True),
    "Conley_Index: product, [0, 1]": lambda: run(boxes(product, padding=False), *UNIT, 6, 10, 4, 10000, index=True),
    "Conley_Index: product, [0, 1.2]": lambda: run(
        boxes(product, padding=False), *LARGER, 6, 10, 4, 10000, index=True
    ),
    "Conley_Index: product, intervals": lambda: run(interval_product, *UNIT, 6, 8, 4, 10000, index=True),
    "Interval: product, 6/8": lambda: run(boxes(product, padding=False), *UNIT, 6, 8),
    "Interval: product, 6/8 from 4": lambda: run(boxes(product, padding=False), *UNIT, 6, 8, 4, 10000),
    "Interval: product, padding": lambda: run(boxes(product), *UNIT, 6, 8, 4, 10000),
    "Interval: product, padding, uniform": lambda: run(boxes(product), *UNIT, 8),
    "Interval: product, padding, 8/16": lambda: run(boxes(product), *UNIT, 8, 16, 8, 10000),
    "Interval: product, intervals": lambda: run(interval_product, *UNIT, 6, 8, 4, 10000),
    "Periodic: cubes mod 1": lambda: run(
        boxes(lambda x: np.column_stack([((x[:, 0] - 0.5) ** 3 + 0.5) % 1, (np.cbrt(x[:, 1] - 0.5) + 0.5) % 1])),
        *UNIT,
        15,
        20,
        periodic=[True, True],
    ),
    "Periodic: cylinder, clipped": lambda: run(boxes(clipped), *UNIT, 18, 25, periodic=[True, False]),
    "Periodic: cylinder": lambda: run(boxes(cubes), *DOUBLE, 10, 15, periodic=[True, False]),
    "Periodic: twisted torus": lambda: run(boxes(twisted), *DOUBLE, 10, 20, periodic=[True, True]),
    "Periodic: contraction of a torus": lambda: run(boxes(halved), *DOUBLE, 10, 20, periodic=[True, True]),
    "Periodic: torus map": lambda: run(boxes(torus), *UNIT, 20, 30, periodic=[True, True]),
    "Periodic: torus map, uniform": lambda: run(boxes(torus), *UNIT, 20, periodic=[True, True]),
    "BoxMap_Data: nearest where empty": lambda: from_data((10, 11, 4, 10000)),
    "BoxMap_Data: outside where empty": lambda: from_data(
        (10, 11, 4, 10000), map_empty="outside", lower_bounds=[0.0, 0.0], upper_bounds=[1.0, 1.0]
    ),
    "BoxMap_Data: none empty": lambda: from_data((8, 9, 4, 10000), map_empty="terminate"),
    "Gaussian_Process: 20/30": lambda: gaussian_process((20, 30)),
    "Gaussian_Process: 15/20": lambda: gaussian_process((15, 20)),
    "ODE: two species": lambda: run(
        boxes(flow(two_species, 0.4, 40), padding=False), [-1, -2], [4, 2], 16, 25, 10, 10000, index=True
    ),
    "ODE: van der Pol": lambda: run(
        boxes(flow(van_der_pol, 0.3, 30), padding=False), [-2.5, -4], [2.5, 4], 14, 16, 8, 10000
    ),
    "ODE: circles, 8": lambda: run(boxes(radial, padding=False), [-4, -4], [4, 4], 8, 8, index=True),
    "ODE: circles, 12/14": lambda: run(
        boxes(radial, padding=False), [-4, -4], [4, 4], 12, 14, 4, 10000, index=True
    ),
    "ODE: Lorenz": lambda: run(
        boxes(flow(lorenz, 0.1, 40), padding=False), [-20, -20, 0], [20, 20, 50], 16, 18, 8, 10000
    ),
    "Order_Retraction: Leslie": lambda: run(boxes(leslie, padding=False), *LESLIE, 18),
    # not the notebooks': systems that run into what is known to be wrong
    "Defects: circle": lambda: run(
        boxes(lambda x: 4 * x, padding=False), [0.0], [1.0], 8, periodic=[True], index=True
    ),
    "Defects: circle, refined": lambda: run(
        boxes(lambda x: 4 * x, padding=False), [0.0], [1.0], 8, 8, periodic=[True], index=True
    ),
    "Defects: product of three": lambda: run(boxes(product, padding=False), [0] * 3, [1.2] * 3, 15, 18, 12, 10000),
    "Defects: not a number": lambda: run(boxes(failing, padding=False), [-1.0], [1.0], 8),
}
