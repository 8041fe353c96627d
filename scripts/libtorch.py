"""Puts libtorch 2.13 for the CPU into third_party/libtorch.

On x86_64 Linux the package index has one build of PyTorch, for CUDA: 0.5 GB, and 2.2 GB of NVIDIA packages that it
asks for. Its CPU half, libtorch_cpu.so, needs two small libraries of those. libtorch.so itself holds no code and only
names its two halves, so an empty library of that name takes its place, and the CUDA half is left out.

LIBTORCH=/path uses that libtorch, LIBTORCH_USE_PYTORCH=1 the PyTorch of the python in use: third_party/libtorch then
leads there, so that the build is the same in all three cases.
"""

import ctypes
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import zipfile

from wheels import Problem, Wheel, check_space, fetch, megabytes, missing_bytes, say

VERSION = "2.13.0"  # the one that tch 0.26 is made for
RECIPE = "1"  # changes when third_party/libtorch has to be made anew
THIRD_PARTY = os.path.realpath("third_party")
DOWNLOADS = os.path.join(THIRD_PARTY, "downloads")
LIBTORCH = os.path.join(THIRD_PARTY, "libtorch")
STAMP = ".complete"
UNPACKED = 520_000_000

# The libraries are the same in the wheel of every Python; take the one that the host's Python can import, since the
# tests' Python environment is made of the same file.
TORCH = {
    tag: Wheel("torch", VERSION, f"torch-{VERSION}-{tag}-{tag}-manylinux_2_28_x86_64.whl", size, sha256)
    for tag, size, sha256 in (
        ("cp310", 526555154, "c78b7b4d04461855a764cf01bae9a462bb88bc93defcfa11235cbc8fdf3e12c4"),
        ("cp311", 526574961, "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7"),
        ("cp312", 526605292, "796633c4cdf0fe2cdced72d8f88f22e73dbcfce83132763162f6d4bff13b820b"),
        ("cp313", 526602329, "a3a9a21312872af8a26950b2c15680335a386a1f56ed03e780653d78b9607e9e"),
        ("cp314", 526614507, "49f1ea385c754e54919408a9bb3b5a72b0b755bbe2c916c1d6f70afbec4908a2"),
    )
}
HOST_TAG = "cp%d%d" % sys.version_info[:2]
CUDART = Wheel(
    "nvidia-cuda-runtime",
    "13.0.96",
    "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
    2243632,
    "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
)
CUPTI = Wheel(
    "nvidia-cuda-cupti",
    "13.0.85",
    "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
    10715597,
    "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
)
LIBRARIES = (
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
)


def main():
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        use_pytorch()
    elif os.environ.get("LIBTORCH") and os.path.realpath(os.environ["LIBTORCH"]) != os.path.realpath(LIBTORCH):
        use_directory(os.environ["LIBTORCH"])
    elif os.path.islink(LIBTORCH):
        check_version(LIBTORCH, "third_party/libtorch, a link to")
    elif not is_complete(LIBTORCH):
        download_and_unpack()


# One's own


def use_directory(path):
    check_version(path, "LIBTORCH points to")
    if not (os.path.islink(LIBTORCH) and os.path.realpath(LIBTORCH) == os.path.realpath(path)):
        replace(LIBTORCH, lambda new: os.symlink(os.path.realpath(path), new))
        say(f"third_party/libtorch is now a link to {path}")


def use_pytorch():
    python = "python" if os.environ.get("VIRTUAL_ENV") else "python3"  # as torch-sys chooses
    code = "import os, torch; print(torch.__version__, os.path.dirname(torch.__file__))"
    answer = subprocess.run([python, "-W", "ignore", "-c", code], capture_output=True, text=True)
    if answer.returncode != 0:
        raise Problem(
            f"LIBTORCH_USE_PYTORCH is set, but {shutil.which(python) or python} cannot import torch: "
            f"{(answer.stderr.strip().splitlines() or ['no message'])[-1]}"
        )
    version, package = answer.stdout.strip().split(" ", 1)
    refuse_other_version(version, f"{shutil.which(python)} has PyTorch")
    wanted = {"include": os.path.join(package, "include"), "lib": os.path.join(package, "lib")}
    if all(os.path.realpath(os.path.join(LIBTORCH, name)) == os.path.realpath(path) for name, path in wanted.items()):
        return

    def links(new):
        os.mkdir(new)
        for name, path in wanted.items():
            os.symlink(path, os.path.join(new, name))
        write_stamp(new, version)

    replace(LIBTORCH, links)
    say(f"third_party/libtorch now leads to the PyTorch in {package}")


def check_version(path, whose):
    """Refuses a folder that is no libtorch 2.13."""
    library = "libtorch_cpu.dylib" if platform.system() == "Darwin" else "libtorch_cpu.so"
    for part in ("lib/" + library, "include/torch/script.h"):
        nested = part.replace("include/", "include/torch/csrc/api/include/")
        if not any(os.path.exists(os.path.join(path, name)) for name in (part, nested)):
            raise Problem(f"{whose} {os.path.realpath(path)}, but there is no {part}: it is not a libtorch with headers")
    header = os.path.join(path, "include/torch/headeronly/version.h")
    version = "of another version"
    if os.path.exists(header):
        with open(header) as file:
            text = file.read()
        version = ".".join(
            re.search(rf"define TORCH_VERSION_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR", "PATCH")
        )
    refuse_other_version(version, f"{whose} {os.path.realpath(path)}, a libtorch")


def refuse_other_version(version, whose):
    if version.split("+")[0] != VERSION and not os.environ.get("LIBTORCH_BYPASS_VERSION_CHECK"):
        raise Problem(
            f"{whose} {version}; {VERSION} is needed: point to that one, or unset LIBTORCH and LIBTORCH_USE_PYTORCH "
            "(and remove third_party/libtorch if it is a link) to have it fetched"
        )


# Ours


def download_and_unpack():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Problem(
            f"libtorch can be fetched for x86_64 Linux only, this is {platform.system()} on {platform.machine()}: "
            "install PyTorch 2.13 for your python and set LIBTORCH_USE_PYTORCH=1, or unpack a libtorch 2.13 and set "
            "LIBTORCH=/path; or build without it: cargo build --no-default-features"
        )
    wheels = (TORCH.get(HOST_TAG, TORCH["cp311"]), CUDART, CUPTI)
    os.makedirs(DOWNLOADS, exist_ok=True)
    to_fetch = sum(missing_bytes(wheel, DOWNLOADS) for wheel in wheels)
    check_space(THIRD_PARTY, to_fetch + UNPACKED, "libtorch")
    paths = [fetch(wheel, DOWNLOADS) for wheel in wheels]
    say("unpacking libtorch")
    replace(LIBTORCH, lambda new: unpack(paths, new))
    say(f"libtorch {VERSION} for the CPU is in third_party/libtorch")
    say("third_party/downloads is kept for the tests' Python environment (make test); it may be deleted")


def unpack(wheels, new):
    """Makes a libtorch in the folder `new`: headers, the libraries that a CPU needs, licences."""
    found = set()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = entry.filename
                if name in LIBRARIES:
                    found.add(name)
                    target = os.path.join(new, "lib", os.path.basename(name))
                elif name.startswith("torch/include/"):
                    target = os.path.join(new, name[len("torch/") :])
                elif name.endswith(("dist-info/licenses/LICENSE", "dist-info/LICENSE", "License.txt")):
                    target = os.path.join(new, "licenses", name.split("-")[0] + ".txt")
                else:
                    continue
                if not entry.is_dir():
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    with archive.open(entry) as source, open(target, "wb") as file:
                        shutil.copyfileobj(source, file, 1 << 20)
    if found != set(LIBRARIES):
        raise Problem(f"not in the packages: {', '.join(sorted(set(LIBRARIES) - found))}")
    lib = os.path.join(new, "lib")
    empty_library(os.path.join(lib, "libtorch.so"))
    os.symlink("libgomp.so.1", os.path.join(lib, "libgomp.so"))
    for name in ("libc10.so", "libtorch_cpu.so"):
        try:
            ctypes.CDLL(os.path.join(lib, name), mode=os.RTLD_NOW)
        except OSError as error:
            raise Problem(f"libtorch does not load on this system (it needs glibc 2.28 or newer): {error}")
    write_stamp(new, VERSION + "+cpu")


def empty_library(path):
    command = ["cc", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libtorch.so", "-o", path, "-x", "c", os.devnull]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        raise Problem(f"cc cannot make a shared library: {answer.stderr.strip()}")


# The folder


def replace(path, make):
    """Lets `make` build at a temporary name, then puts the result at `path`; a failure leaves `path` as it was."""
    new = path + ".new"
    remove(new)
    try:
        make(new)
    except BaseException:
        remove(new)
        raise
    remove(path)
    os.rename(new, path)


def remove(path):
    if os.path.islink(path):
        os.remove(path)
    elif os.path.exists(path):
        shutil.rmtree(path)


def write_stamp(folder, version):
    """torch-sys compares `build-version` with the version it wants; the stamp lists what must be there."""
    with open(os.path.join(folder, "build-version"), "w") as file:
        file.write(version + "\n")
    lib = os.path.join(folder, "lib")
    lines = [f"recipe {RECIPE}"] + [f"{os.path.getsize(os.path.join(lib, n))} {n}" for n in sorted(os.listdir(lib))]
    with open(os.path.join(folder, STAMP), "w") as file:
        file.write("\n".join(lines) + "\n")


def is_complete(folder):
    try:
        with open(os.path.join(folder, STAMP)) as file:
            recipe, *libraries = file.read().splitlines()
        return recipe == f"recipe {RECIPE}" and all(
            os.path.getsize(os.path.join(folder, "lib", line.split(" ", 1)[1])) == int(line.split(" ", 1)[0])
            for line in libraries
        )
    except (OSError, ValueError, IndexError):
        return False


def run(work):
    """Runs a set-up step, one at a time, and puts its problems into words."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.makedirs(THIRD_PARTY, exist_ok=True)
    with open(os.path.join(THIRD_PARTY, ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            work()
        except Problem as problem:
            say(problem)
            sys.exit(1)
        except OSError as error:
            say(f"{error} (run it again to go on)")
            sys.exit(1)
        except KeyboardInterrupt:
            say("interrupted; run it again to go on")
            sys.exit(130)


if __name__ == "__main__":
    run(main)
