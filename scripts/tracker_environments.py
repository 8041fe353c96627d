"""Makes the environments with the trackers that the tests run against, in third_party/:

mlflow-venv   the MLflow server and SDK (0.4 GB)
wandb-venv    the SDK of Weights & Biases (0.2 GB); the server is the tests' own

Nothing but the tests needs them, and they say so and go on where one is missing; so does this script where Python is
too old for a tracker. With names as arguments it makes those alone.
"""

import collections
import os
import shutil
import subprocess
import sys

import libtorch
from python_environment import PYTHONS, can_make_environments, create, describe, interpreter, is_complete, pip, tag
from wheels import Problem, check_space, say

# name: of the folder and the requirements; title: what messages call it; program: what there is at the end
# oldest, newest: minor versions of Python 3 that there are packages for; fetched, installed: bytes
# check: loads what the tests load, so that a package that is missing shows now; variables: for this check
Tracker = collections.namedtuple(
    "Tracker", "name title program oldest newest fetched installed check variables"
)
TRACKERS = (
    Tracker(
        name="mlflow",
        title="MLflow",
        program="mlflow",
        oldest=10,
        newest=14,
        fetched=100_000_000,
        installed=400_000_000,
        check="import numpy, safetensors.numpy, graphene, flask_wtf, mlflow.server.handlers, mlflow.server.fastapi_app",
        variables={"MLFLOW_DISABLE_TELEMETRY": "true"},
    ),
    Tracker(
        name="wandb",
        title="W&B SDK",
        program="wandb",
        oldest=10,
        newest=14,
        fetched=50_000_000,
        installed=220_000_000,
        check="import numpy, safetensors.numpy, PIL.Image, wandb.apis.public, wandb.util; wandb.util.get_core_path()",
        variables={"WANDB_ERROR_REPORTING": "false"},
    ),
)
# Packages that are fetched and installed at a time. pip forgets what it has fetched when it is interrupted.
AT_ONCE = 12
BEGUN = ".begun"  # becomes the stamp at the end


def main():
    for tracker in TRACKERS:
        if tracker.name in (sys.argv[1:] or [tracker.name]):
            make(tracker)


def make(tracker):
    environment = os.path.join(libtorch.THIRD_PARTY, f"{tracker.name}-venv")
    requirements = os.path.join("scripts", f"{tracker.name}-requirements.txt")
    python = suitable_python(tracker)
    if not python:
        return
    recipe = describe(python, tracker.name, requirements)
    if is_complete(environment, recipe):
        return
    check_space(libtorch.THIRD_PARTY, tracker.fetched + tracker.installed, f"the tests' {tracker.title}")
    begin(tracker, environment, python, recipe)
    with open(requirements) as file:
        packages = [line.strip() for line in file if not line.startswith("#")]
    for start in range(0, len(packages), AT_ONCE):
        some = packages[start : start + AT_ONCE]
        pip(environment, requirements, "--no-cache-dir", "--no-deps", "--only-binary=:all:", *some)
    check_import(tracker, environment)
    os.replace(os.path.join(environment, BEGUN), os.path.join(environment, libtorch.STAMP))
    say(f"the tests' {tracker.title} is third_party/{tracker.name}-venv/bin/{tracker.program}")


def begin(tracker, environment, python, recipe):
    """An environment to install into: the one that an interrupted set-up left, else an empty one."""
    begun = os.path.join(environment, BEGUN)
    if os.path.exists(begun):
        with open(begun) as file:
            if file.read() == recipe:
                say(f"going on with the tests' {tracker.title} environment")
                return
    say(f"making the tests' {tracker.title} environment (fetching {tracker.fetched // 1_000_000} MB)")
    libtorch.remove(environment)
    create(python, environment)
    with open(begun, "w") as file:
        file.write(recipe)


def suitable_python(tracker):
    """A Python that has packages for the tracker, the one in use before others; None, with a word, where there is none."""
    tags = [f"cp3{minor}" for minor in range(tracker.oldest, tracker.newest + 1)]
    for path in filter(None, map(shutil.which, PYTHONS)):
        if tag(path) in tags and can_make_environments(path):
            return path
    say(
        f"the tests' {tracker.title} needs a CPython 3.{tracker.oldest} to 3.{tracker.newest} that can make virtual "
        f"environments, and {sys.executable} is {'.'.join(map(str, sys.version_info[:2]))}: going on without it; the "
        "tests that need it will be skipped"
    )
    return None


def check_import(tracker, environment):
    command = [interpreter(environment), "-W", "ignore", "-c", tracker.check]
    variables = {**os.environ, **tracker.variables}
    answer = subprocess.run(command, cwd=environment, env=variables, capture_output=True, text=True)
    if answer.returncode != 0:
        libtorch.remove(environment)
        raise Problem(
            f"the tests' {tracker.title} does not work and was removed, run the set-up again: {answer.stderr.strip()}"
        )


if __name__ == "__main__":
    libtorch.run(main)
