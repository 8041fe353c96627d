"""Makes third_party/pytorch-venv: the Python with PyTorch 2.13, numpy and scikit-learn that the tests compare with.

Nothing but the tests needs it. It shares its libraries with third_party/libtorch, and NVIDIA's are replaced by
stand-ins, so that it takes 0.8 GB rather than 4.7. With LIBTORCH_USE_PYTORCH=1 it borrows the PyTorch of the python in
use instead. tracker_environments.py makes the other environments of the tests with the same steps.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys

import cuda_stand_ins
import libtorch
from wheels import Problem, check_space, fetch, missing_bytes, say

ENVIRONMENT = os.path.join(libtorch.THIRD_PARTY, "pytorch-venv")
REQUIREMENTS = os.path.join("scripts", "python-requirements.txt")
INSTALLED = 1_300_000_000
PYTHONS = [sys.executable] + [f"python3.{minor}" for minor in (11, 12, 13, 14, 10)]  # in the order of preference

# As libtorch needs them, and only then.
SHARED = {
    "torch/lib": ("libtorch_cpu.so", "libc10.so", "libgomp.so.1"),
    "nvidia/cu13/lib": ("libcudart.so.13", "libcupti.so.13"),
}


def main():
    borrowed = borrowed_packages()
    python = sys.executable if borrowed else suitable_python()
    recipe = describe(python, f"torch {borrowed or libtorch.VERSION}", REQUIREMENTS)
    if is_complete(ENVIRONMENT, recipe):
        return
    wheel = None
    if not borrowed:
        wheel = libtorch.TORCH[tag(python)]
        os.makedirs(libtorch.DOWNLOADS, exist_ok=True)
        to_fetch = missing_bytes(wheel, libtorch.DOWNLOADS)
        check_space(libtorch.THIRD_PARTY, to_fetch + INSTALLED, "the tests' Python environment")
        wheel = fetch(wheel, libtorch.DOWNLOADS)
    say("making the tests' Python environment")
    libtorch.remove(ENVIRONMENT)
    try:
        create(python, ENVIRONMENT)
        if borrowed:
            with open(os.path.join(site_packages(), "pytorch.pth"), "w") as file:
                file.write(borrowed + "\n")
        else:
            install_torch(wheel)
        pip(ENVIRONMENT, REQUIREMENTS, "--no-cache-dir", "--requirement", REQUIREMENTS)
        check_import()
        with open(os.path.join(ENVIRONMENT, libtorch.STAMP), "w") as file:
            file.write(recipe)
    except BaseException:
        libtorch.remove(ENVIRONMENT)
        raise
    shutil.rmtree(libtorch.DOWNLOADS, ignore_errors=True)
    say("the tests' Python is third_party/pytorch-venv/bin/python")


# Which Python


def suitable_python():
    """A Python that PyTorch 2.13 is built for: the one in use, else another of this machine."""
    if os.path.exists(libtorch.LIBTORCH) and not os.path.exists(os.path.join(libtorch.LIBTORCH, libtorch.STAMP)):
        raise Problem(
            "the tests compare with PyTorch, and third_party/libtorch is a libtorch of your own: set "
            "LIBTORCH_USE_PYTORCH=1 to use a PyTorch 2.13 of your own, too, or unset LIBTORCH and remove the link "
            "third_party/libtorch to have both fetched"
        )
    candidates = [path for path in map(shutil.which, PYTHONS) if path and tag(path) in libtorch.TORCH]
    if not candidates:
        raise Problem(
            f"PyTorch 2.13 is built for Python 3.10 to 3.14, and {sys.executable} is "
            f"{'.'.join(map(str, sys.version_info[:2]))}: install one of those (the tests need it, nothing else does), "
            "or set LIBTORCH_USE_PYTORCH=1 with a python that has PyTorch 2.13"
        )
    for path in candidates:
        if can_make_environments(path):
            return path
    raise Problem(
        f"{candidates[0]} cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv"
    )


def tag(python):
    """The interpreter's tag in names of packages, such as cp311; none for those that need packages of their own."""
    code = (
        "import sys, sysconfig; print(sys.implementation.name == 'cpython' and not "
        "sysconfig.get_config_var('Py_GIL_DISABLED') and 'cp%d%d' % sys.version_info[:2] or '')"
    )
    answer = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return answer.stdout.strip()


def can_make_environments(python):
    return subprocess.run([python, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL).returncode == 0


def borrowed_packages():
    """The folder of packages that holds the user's PyTorch, if that is to be used."""
    if not os.environ.get("LIBTORCH_USE_PYTORCH"):
        return None
    # third_party/libtorch/lib leads into it by now.
    return os.path.dirname(os.path.dirname(os.path.realpath(os.path.join(libtorch.LIBTORCH, "lib"))))


def describe(python, principal, requirements):
    """What an environment is made from; made anew when this changes."""
    with open(requirements, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    version = subprocess.run([python, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()
    return f"recipe 1, {version}, {principal}, requirements {digest}\n"


def is_complete(environment, recipe):
    try:
        with open(os.path.join(environment, libtorch.STAMP)) as file:
            return file.read() == recipe and subprocess.run([interpreter(environment), "-c", ""]).returncode == 0
    except OSError:
        return False


def interpreter(environment):
    return os.path.join(environment, "bin", "python")


# Making it


def create(python, environment):
    command = [python, "-m", "venv", environment]
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if answer.returncode != 0:
        raise Problem(f"{' '.join(command)} failed: {answer.stdout.strip()}")


def install_torch(wheel):
    # Unpacked, libtorch_cpu.so would be there twice for a moment; check_space counts that.
    pip(ENVIRONMENT, REQUIREMENTS, "--no-deps", "--no-compile", "--no-cache-dir", wheel)
    packages = site_packages()
    # From now on pip must not want NVIDIA's packages: it forgets that torch asked for them.
    metadata = os.path.join(packages, f"torch-{libtorch.VERSION}.dist-info", "METADATA")
    with open(metadata, encoding="utf-8") as file:
        lines = [line for line in file if not re.match(r"Requires-Dist: (nvidia|cuda|triton)", line)]
    with open(metadata, "w", encoding="utf-8") as file:
        file.writelines(lines)
    os.remove(os.path.join(packages, "torch/lib/libtorch_cuda_linalg.so"))  # loaded only where there is a GPU
    for folder, names in SHARED.items():
        os.makedirs(os.path.join(packages, folder), exist_ok=True)
        for name in names:
            target = os.path.join(packages, folder, name)
            if os.path.exists(target):
                os.remove(target)
            os.link(os.path.join(libtorch.LIBTORCH, "lib", name), target)
    cuda_stand_ins.make(os.path.join(packages, "torch/lib"), os.path.join(packages, "nvidia/cu13/lib"))


def check_import():
    code = "import numpy, safetensors, sklearn, torch; print(torch.__version__); torch.nn.Linear(2, 2)(torch.ones(1, 2))"
    answer = subprocess.run([interpreter(ENVIRONMENT), "-W", "ignore", "-c", code], capture_output=True, text=True)
    if answer.returncode != 0:
        raise Problem(f"the tests' Python does not work: {answer.stderr.strip()}")
    libtorch.refuse_other_version(answer.stdout.strip(), "the tests' Python has PyTorch")


def site_packages():
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    command = [interpreter(ENVIRONMENT), "-c", code]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def pip(environment, requirements, *arguments):
    """Installs into an environment; `requirements` is the file that tells what it needs."""
    command = [interpreter(environment), "-m", "pip", "install", *arguments, "--quiet", "--disable-pip-version-check"]
    if subprocess.run(command).returncode != 0:
        raise Problem(
            f"pip could not install what third_party/{os.path.basename(environment)} needs (its words are above); run "
            f"the set-up again to go on; without network, see {requirements} for what to bring along "
            "(PIP_FIND_LINKS=/folder)"
        )


if __name__ == "__main__":
    libtorch.run(main)
