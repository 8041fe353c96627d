#!/usr/bin/env python3
"""Trains the softmax regressions of Eslami et al. 2021 on Iris, and writes two checkpoints of each.

    python3 examples/paper/train.py FOLDER [--shuffle] [--runs 100] [--epochs 450] [--batch 5] [--seed 0]

Petal length and width, standardised, half of the flowers to train on; one dense layer of nine parameters, its kernel
uniform on (-2, 2), its bias zero; cross-entropy, Adam at its default rate. FOLDER/RUN/step-STEP.safetensors holds the
weights after the second epoch and after the last.

With --shuffle the last checkpoints are dealt out to the runs at random: rows of first and last weights that are not
joined by run, as the published code very probably has them. Needs NumPy alone; all runs are trained at once.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

FLOWERS = Path(__file__).resolve().parents[2] / "src/bin/doodl3-evaluator/train/iris.csv"
CLASSES = ["setosa", "versicolor", "virginica"]

# Adam as Kingma and Ba (2015) have it, and as Keras and PyTorch take it
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


def training_half(seed=2):
    """Inputs [75, 3], standardised petal length and width and a one for the bias; and species [75]."""
    with open(FLOWERS, newline="") as file:
        rows = list(csv.DictReader(file))
    petals = np.array([[float(row["petal_length_cm"]), float(row["petal_width_cm"])] for row in rows])
    species = np.array([CLASSES.index(row["species"]) for row in rows])
    half = np.random.default_rng(seed).permutation(len(rows))[: len(rows) // 2]
    petals, species = petals[half], species[half]
    petals = (petals - petals.mean(0)) / petals.std(0)
    return np.column_stack([petals, np.ones(len(petals))]), species


def train(runs=100, epochs=450, batch=5, seed=0):
    """Weights [runs, 3 classes, 3] after the second epoch and after the last, the bias in the last column."""
    inputs, species = training_half()
    truth = np.eye(len(CLASSES))[species]
    random = np.random.default_rng(seed)
    weights = random.uniform(-2, 2, (runs, 3, 3))
    weights[:, :, 2] = 0
    first = second = np.zeros_like(weights)  # moments of the gradient
    step, kept = 0, []
    for epoch in range(1, epochs + 1):
        order = random.permuted(np.tile(np.arange(len(inputs)), (runs, 1)), axis=1)
        for start in range(0, len(inputs), batch):
            chosen = order[:, start : start + batch]
            x = inputs[chosen]
            scores = x @ weights.transpose(0, 2, 1)
            scores = np.exp(scores - scores.max(2, keepdims=True))
            errors = scores / scores.sum(2, keepdims=True) - truth[chosen]
            gradient = errors.transpose(0, 2, 1) @ x / chosen.shape[1]
            step += 1
            first = BETA1 * first + (1 - BETA1) * gradient
            second = BETA2 * second + (1 - BETA2) * gradient**2
            spread = np.sqrt(second / (1 - BETA2**step)) + EPSILON
            weights = weights - RATE * first / (1 - BETA1**step) / spread
        if epoch in (2, epochs):
            kept.append(weights)
    return kept


def save(path, step, weights):
    """The weights [3, 3] of one run as safetensors: the length of a header, the header, the numbers."""
    tensors = {"0.bias": weights[:, 2], "0.weight": weights[:, :2]}
    header, data = {"__metadata__": {"step": str(step), "format": "pt"}}, b""
    for name, tensor in tensors.items():
        values = np.ascontiguousarray(tensor, dtype="<f4").tobytes()
        offsets = [len(data), len(data) + len(values)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shuffle", action="store_true", help="pair each run's first weights with any run's last")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=450)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.epochs < 3:
        parser.error("the first checkpoint is taken after the second epoch: train for 3 or more")
    first, last = train(options.runs, options.epochs, options.batch, options.seed)
    if options.shuffle:
        last = last[np.random.default_rng(options.seed).permutation(options.runs)]
    steps_per_epoch = -(-len(training_half()[0]) // options.batch)
    for run, (before, after) in enumerate(zip(first, last)):
        folder = options.folder / f"run-{run:03}"
        folder.mkdir(parents=True, exist_ok=True)
        for epoch, weights in [(2, before), (options.epochs, after)]:
            step = epoch * steps_per_epoch
            save(folder / f"step-{step:06}.safetensors", step, weights)


if __name__ == "__main__":
    main()
