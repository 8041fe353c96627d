"""Makes third_party/mlflow-venv: the MLflow server and SDK that the tests run against (0.4 GB).

Nothing but the tests needs it, and they say so and go on where it is missing; so does this script where Python is too
old for MLflow 3.
"""

import os
import shutil
import subprocess
import sys

import libtorch
from python_environment import PYTHONS, can_make_environments, create, describe, interpreter, is_complete, pip, tag
from wheels import Problem, check_space, say

ENVIRONMENT = os.path.join(libtorch.THIRD_PARTY, "mlflow-venv")
REQUIREMENTS = os.path.join("scripts", "mlflow-requirements.txt")
# Packages that are fetched and installed at a time. pip forgets what it has fetched when it is interrupted.
AT_ONCE = 12
BEGUN = ".begun"  # becomes the stamp at the end
OLDEST, NEWEST = 10, 14  # minor versions of Python 3 that there are packages for
INSTALLED, FETCHED = 400_000_000, 100_000_000


def main():
    python = suitable_python()
    if not python:
        return
    recipe = describe(python, "mlflow", REQUIREMENTS)
    if is_complete(ENVIRONMENT, recipe):
        return
    check_space(libtorch.THIRD_PARTY, FETCHED + INSTALLED, "the tests' MLflow")
    begin(python, recipe)
    with open(REQUIREMENTS) as file:
        packages = [line.strip() for line in file if not line.startswith("#")]
    for start in range(0, len(packages), AT_ONCE):
        some = packages[start : start + AT_ONCE]
        pip(ENVIRONMENT, REQUIREMENTS, "--no-cache-dir", "--no-deps", "--only-binary=:all:", *some)
    check_import()
    os.replace(os.path.join(ENVIRONMENT, BEGUN), os.path.join(ENVIRONMENT, libtorch.STAMP))
    say("the tests' MLflow is third_party/mlflow-venv/bin/mlflow")


def begin(python, recipe):
    """An environment to install into: the one that an interrupted set-up left, else an empty one."""
    begun = os.path.join(ENVIRONMENT, BEGUN)
    if os.path.exists(begun):
        with open(begun) as file:
            if file.read() == recipe:
                say("going on with the tests' MLflow environment")
                return
    say(f"making the tests' MLflow environment (fetching {FETCHED // 1_000_000} MB)")
    libtorch.remove(ENVIRONMENT)
    create(python, ENVIRONMENT)
    with open(begun, "w") as file:
        file.write(recipe)


def suitable_python():
    """A Python that has packages for MLflow 3, the one in use before others; None, with a word, where there is none."""
    tags = [f"cp3{minor}" for minor in range(OLDEST, NEWEST + 1)]
    for path in filter(None, map(shutil.which, PYTHONS)):
        if tag(path) in tags and can_make_environments(path):
            return path
    say(
        f"MLflow 3 needs a CPython 3.{OLDEST} to 3.{NEWEST} that can make virtual environments, and {sys.executable} "
        f"is {'.'.join(map(str, sys.version_info[:2]))}: going on without it; the tests that need it will be skipped"
    )
    return None


def check_import():
    """Loads what a server and a trainer load, so that a package that is missing shows now."""
    code = "import numpy, safetensors.numpy, graphene, flask_wtf, mlflow.server.handlers, mlflow.server.fastapi_app"
    variables = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [interpreter(ENVIRONMENT), "-W", "ignore", "-c", code]
    answer = subprocess.run(command, cwd=ENVIRONMENT, env=variables, capture_output=True, text=True)
    if answer.returncode != 0:
        libtorch.remove(ENVIRONMENT)
        raise Problem(f"the tests' MLflow does not work and was removed, run the set-up again: {answer.stderr.strip()}")


if __name__ == "__main__":
    libtorch.run(main)
