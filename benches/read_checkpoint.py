#!/usr/bin/env python3
"""How fast checkpoints are read and reduced, beside a plain read of the same file and beside PyTorch, in one run.

    third_party/pytorch-venv/bin/python benches/read_checkpoint.py [--gigabytes 1] [--rounds 5] [--binary PATH]

Writes safetensors files of random weights (f32 and bf16) to a temporary folder, so that they lie in the page cache, then times in
turn, on one core each: `read` (positional reads into one reused buffer), `summarize` (what doodl3 does: digest, sketch and
all statistics), and safetensors' and PyTorch's loads in Python, which compute nothing (that of safetensors maps the
file and hardly reads it). The best of the rounds counts.
Prints a table, and the largest resident memory of each.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LOADS = {
    "safetensors load_file": "from safetensors.torch import load_file; load = lambda: load_file(sys.argv[1] + '.safetensors')",
    "torch.load": "load = lambda: torch.load(sys.argv[1] + '.pt')",
}


def write(stem, gigabytes, dtype):
    """The same tensors in both formats: matrices of 16 million elements."""
    code = f"""
import sys, torch
from safetensors.torch import save_file
torch.manual_seed(0)
dtype = torch.{dtype}
count = max(1, round({gigabytes} * 1e9 / dtype.itemsize / (1 << 24)))
tensors = {{f"layer.{{i}}.weight": torch.randn(4096, 4096).to(dtype) for i in range(count)}}
save_file(tensors, sys.argv[1] + ".safetensors", metadata={{"step": "1"}})
torch.save(tensors, sys.argv[1] + ".pt")
"""
    subprocess.run([sys.executable, "-c", code, stem], check=True)


def measured(command):
    """Seconds and peak resident megabytes of one command, on one core."""
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execvpe(command[0], command, {**os.environ, "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return usage.ru_maxrss / 1024


def rust(binary, mode, path):
    command = [str(binary), mode, path, "1"]
    begin = time.perf_counter()
    memory = measured(command)
    return time.perf_counter() - begin, memory


def python(load, stem):
    """Times the load inside the process, so that starting Python and importing PyTorch do not count."""
    code = f"""
import resource, sys, time, torch
torch.set_num_threads(1)
{load}
begin = time.perf_counter()
tensors = load()
total = sum(float(t.view(-1)[:: 1024].float().sum()) for t in tensors.values())
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    said = subprocess.run([sys.executable, "-c", code, stem], check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), float(said[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--binary", type=Path, help="a checkpoint_speed that is built already")
    options = parser.parse_args()
    binary = options.binary
    if binary is None:
        build = ["cargo", "build", "--locked", "--release", "--no-default-features", "--example", "checkpoint_speed"]
        subprocess.run(build, cwd=ROOT, check=True)
        binary = ROOT / "target/release/examples/checkpoint_speed"
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ["float32", "bfloat16"]:
            stem = f"{folder}/{dtype}"
            write(stem, options.gigabytes, dtype)
            path = stem + ".safetensors"
            size = os.path.getsize(path)
            jobs = {mode: lambda mode=mode: rust(binary, mode, path) for mode in ["read", "summarize"]}
            jobs |= {name: lambda load=load: python(load, stem) for name, load in LOADS.items()}
            best = {name: (float("inf"), 0.0) for name in jobs}
            for _ in range(options.rounds):
                for name, job in jobs.items():
                    seconds, memory = job()
                    best[name] = (min(best[name][0], seconds), max(best[name][1], memory))
            print(f"{dtype}, {size / 1e9:.2f} GB")
            for name, (seconds, memory) in best.items():
                share = best["read"][0] / seconds
                print(f"  {name:22} {size / 1e9 / seconds:6.2f} GB/s  {share:5.2f} of the plain read  {memory:7.0f} MB resident")
            os.unlink(path)
            os.unlink(stem + ".pt")


if __name__ == "__main__":
    main()
