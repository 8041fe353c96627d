"""What scripts share that time doodl3 beside other programs: the peers' environment, and one process measured."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "target" / "peers"
REQUIREMENTS = ["CMGDB==1.5.2", "numpy==2.4.6", "scikit-learn==1.9.1"]


class Measured(NamedTuple):
    """What a process printed, its seconds, its processor seconds, and its peak resident megabytes."""

    output: str
    seconds: float
    processor: float
    megabytes: float


def python():
    """The interpreter of the peers' environment, made at first use and when the requirements change."""
    interpreter = PEERS / "bin" / "python"
    ready = PEERS / "ready"
    wanted = "\n".join(REQUIREMENTS)
    if not ready.exists() or ready.read_text() != wanted:
        venv.create(PEERS, with_pip=True, clear=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *REQUIREMENTS], check=True)
        ready.write_text(wanted)
    return str(interpreter)


def example(name):
    """The binary of an example, built for release."""
    build = ["cargo", "build", "--locked", "--release", "--no-default-features", "--example", name]
    subprocess.run(build, cwd=ROOT, check=True)
    return str(ROOT / "target/release/examples" / name)


def measured(command):
    """A process of one thread, as a whole."""
    one = {name: "1" for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]}
    with tempfile.TemporaryFile() as out:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env={**os.environ, **one})
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = status
        if status:
            sys.exit(f"failed: {' '.join(command)}")
        out.seek(0)
        output = out.read().decode().strip()
        return Measured(output, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(rounds, field):
    return statistics.median(getattr(found, field) for found in rounds)
