#!/usr/bin/env python3
"""A plain PyTorch training loop for doodl3 to watch.

    doodl3 watch checkpoints &
    python examples/train_pytorch.py --diverge-at 1500

It learns to tell three spirals apart, writes `checkpoints/RUN/step-STEP.pt` with torch.save, as training scripts do, and
one line of `checkpoints/RUN/metrics.jsonl` for every ten steps. With --diverge-at the learning rate grows by 2 per cent
in every step from there on, as with a schedule of the wrong sign, until training is lost.
"""

import argparse
import json
import math
import os
import time

import torch
from torch import nn

BATCH = 64
LOG_EVERY = 10


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="checkpoints", help="folder of the runs (checkpoints)")
    parser.add_argument("--run", default=None, help="name of this run (seed-SEED)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--checkpoint-every", type=int, default=25, metavar="STEPS")
    parser.add_argument("--rate", type=float, default=0.05, help="learning rate (0.05)")
    parser.add_argument("--diverge-at", type=int, default=None, metavar="STEP", help="where training goes wrong")
    parser.add_argument("--seconds", type=float, default=60, help="how long the training shall take at least (60)")
    return parser.parse_args()


def spirals(count):
    """Points of three spirals, and which spiral each is on."""
    classes = torch.arange(count) % 3
    radius = torch.rand(count)
    angle = 4 * radius + 2 * math.pi / 3 * classes + 0.2 * torch.randn(count)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), classes


def save(folder, step, model, optimizer):
    state = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, os.path.join(folder, f"step-{step:06}.pt"))


def finite(value):
    """NaN and infinities have no place in JSON."""
    return {"train/loss": value} if math.isfinite(value) else {"train/loss": None, "nonfinite": True}


def main():
    options = arguments()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    inputs, classes = spirals(3000)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=options.rate, momentum=0.9)
    folder = os.path.join(options.out, options.run or f"seed-{options.seed:03}")
    os.makedirs(folder, exist_ok=True)
    started = time.monotonic()
    with open(os.path.join(folder, "metrics.jsonl"), "w") as metrics:
        save(folder, 0, model, optimizer)
        for step in range(1, options.steps + 1):
            batch = torch.randint(len(inputs), (BATCH,))
            loss = nn.functional.cross_entropy(model(inputs[batch]), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            if options.diverge_at is not None and step >= options.diverge_at:
                optimizer.param_groups[0]["lr"] = min(1e3, 1.02 * optimizer.param_groups[0]["lr"])
            optimizer.step()
            if step % LOG_EVERY == 0:
                print(json.dumps({"step": step, **finite(loss.item())}), file=metrics, flush=True)
            if step % options.checkpoint_every == 0:
                save(folder, step, model, optimizer)
            due = started + options.seconds * step / options.steps
            time.sleep(max(0.0, due - time.monotonic()))
    print(f"{folder}: {options.steps} steps, loss {loss.item():.3g}")


if __name__ == "__main__":
    main()
