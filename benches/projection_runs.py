#!/usr/bin/env python3
"""Which coordinates and which lag an automatic choice takes, and what that is worth on fresh runs: three kinds of training.

    third_party/pytorch-venv/bin/python benches/projection_runs.py [--seeds 11 12 13] [--runs 100] [--fresh 50] [--folder F] [--no-table]

Trains networks, writes their checkpoints to FOLDER/seed-SEED (a temporary folder unless named; what is there already is not
trained again), and prints the tables of `examples/projection_table.rs`. The choice sees `CASE.runs.safetensors` alone, the
tables are scored on `CASE.fresh.safetensors`.

- `iris`: softmax regression on petals (Eslami et al. 2021: nine weights, kernel uniform on (-2, 2), Adam at its default rate,
  batches of 5, 450 epochs), a checkpoint every 10 epochs.
- `digits`: zeros and ones of scikit-learn's 8x8 digits, pixels not scaled, by the network of the same paper: a 3x3 convolution
  with two filters, ReLU, max-pooling to 3x3, dropout 0.25, dense softmax: 58 parameters, kernels uniform on (-2, 2);
  batches of 32, 300 epochs, a checkpoint every 6.
- `permuted`: a network with eight hidden tanh units on all of Iris, started near one point, the hidden units of each run
  permuted at random: in weight space runs differ that compute nearly the same. Batches of 15, 200 epochs, a checkpoint every 4.

Each file holds tensors `steps` [T] (epochs), `weights` [R, T, P], `predictions` [R, T, Q] (probabilities on held-out examples)
and `loss` [R, T] (cross-entropy there).
"""

import argparse
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.datasets import load_digits, load_iris

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Case:
    """A kind of training. Tensors of weights carry the runs as their first axis."""

    inputs: torch.Tensor
    labels: torch.Tensor
    start: Callable  # (runs, generator) -> weights
    scores: Callable  # (weights, inputs [R, B, ...], generator or None) -> [R, B, classes]
    batch: int
    epochs: int
    every: int


def uniform(shape, bound, generator):
    return (2 * torch.rand(shape, generator=generator) - 1) * bound


def standardised(x):
    return (x - x.mean(0)) / x.std(0, correction=0)


def iris():
    data = load_iris()
    x = standardised(torch.tensor(data.data[:, 2:], dtype=torch.float32))

    def start(runs, generator):
        return [uniform((runs, 2, 3), 2, generator), torch.zeros(runs, 1, 3)]

    return Case(x, torch.tensor(data.target), start, lambda w, x, _: x @ w[0] + w[1], 5, 450, 10)


def digits(scale):
    data = load_digits(n_class=2)
    x = torch.tensor(data.images, dtype=torch.float32) * scale

    def start(runs, generator):
        return [
            uniform((runs, 2, 3, 3), 2, generator),
            torch.zeros(runs, 2),
            uniform((runs, 18, 2), 2, generator),
            torch.zeros(runs, 1, 2),
        ]

    def scores(w, x, generator):
        runs, batch = x.shape[:2]
        x = F.conv2d(x.transpose(0, 1), w[0].reshape(2 * runs, 1, 3, 3), w[1].reshape(-1), groups=runs)
        x = F.max_pool2d(F.relu(x), 2).reshape(batch, runs, 18).transpose(0, 1)
        if generator is not None:
            x = x * (torch.rand(x.shape, generator=generator) >= 0.25) / 0.75
        return x @ w[2] + w[3]

    return Case(x, torch.tensor(data.target), start, scores, 32, 300, 6)


def permuted():
    data = load_iris()
    x = standardised(torch.tensor(data.data, dtype=torch.float32))
    reference = torch.Generator().manual_seed(1)
    common = [uniform((1, 4, 8), 0.5, reference), uniform((1, 1, 8), 0.5, reference), uniform((1, 8, 3), 0.35, reference)]

    def start(runs, generator):
        first, bias, second = (w + uniform((runs, *w.shape[1:]), 0.2, generator) for w in common)
        order = torch.rand(runs, 8, generator=generator).argsort(1)
        first = first.gather(2, order[:, None, :].expand_as(first))
        bias = bias.gather(2, order[:, None, :])
        second = second.gather(1, order[:, :, None].expand_as(second))
        return [first, bias, second, torch.zeros(runs, 1, 3)]

    def scores(w, x, _):
        return torch.tanh(x @ w[0] + w[1]) @ w[2] + w[3]

    return Case(x, torch.tensor(data.target), start, scores, 15, 200, 4)


CASES = {"iris": iris, "digits": lambda: digits(1 / 16), "digits_raw": lambda: digits(1), "permuted": permuted}


def train(case, runs, seed):
    """All runs at once: the sum of their losses has for each run its own gradient."""
    generator = torch.Generator().manual_seed(seed)
    weights = [w.requires_grad_() for w in case.start(runs, generator)]
    optimiser = torch.optim.Adam(weights)
    train, held_out = slice(0, None, 2), slice(1, None, 2)
    inputs, labels = case.inputs[train], case.labels[train]
    probe, truth = case.inputs[held_out], case.labels[held_out]
    steps, record = [], {"weights": [], "predictions": [], "loss": []}

    def checkpoint(epoch):
        with torch.no_grad():
            logarithms = case.scores(weights, probe.expand(runs, *probe.shape), None).log_softmax(-1)
        steps.append(epoch)
        record["weights"].append(torch.cat([w.detach().reshape(runs, -1) for w in weights], 1))
        record["predictions"].append(logarithms.exp().reshape(runs, -1))
        record["loss"].append(-logarithms.double()[:, torch.arange(len(truth)), truth].mean(1))

    checkpoint(0)
    for epoch in range(1, case.epochs + 1):
        order = torch.rand(runs, len(inputs), generator=generator).argsort(1)
        for batch in order.split(case.batch, 1):
            logarithms = case.scores(weights, inputs[batch], generator).log_softmax(-1)
            loss = -logarithms.gather(2, labels[batch][..., None]).mean((1, 2)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if epoch % case.every == 0:
            checkpoint(epoch)
    stacked = {name: torch.stack(values, 1).contiguous() for name, values in record.items()}
    return {"steps": torch.tensor(steps), **stacked}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--fresh", type=int, default=50)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--no-table", action="store_true", help="only train")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folders = [(options.folder or Path(temporary)) / f"seed-{seed}" for seed in options.seeds]
        for folder, option in zip(folders, options.seeds):
            folder.mkdir(parents=True, exist_ok=True)
            for name, case in CASES.items():
                for kind, runs, seed in [("runs", options.runs, 2 * option), ("fresh", options.fresh, 2 * option + 1)]:
                    file = folder / f"{name}.{kind}.safetensors"
                    if not file.exists():
                        save_file(train(case(), runs, seed), file)
        if not options.no_table:
            command = ["cargo", "run", "--release", "--locked", "--quiet", "--example", "projection_table", "--", *folders]
            subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
