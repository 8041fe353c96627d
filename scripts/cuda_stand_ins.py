"""Stand-ins for the NVIDIA libraries that PyTorch's CUDA build wants to be there.

`import torch` loads every library that its own name as NEEDED, although a machine without a GPU never calls them: 1.8 GB
of packages. For each of them that is not there, an empty library of the same name is linked, which has the symbols that
torch's libraries want of it, with their versions. A call to one of them would end the process with a message.
"""

import collections
import os
import re
import subprocess
import tempfile

# Only loaded when a GPU is used.
NOT_LOADED = {"libtorch_cuda_linalg.so", "libcaffe2_nvrtc.so"}
SYSTEM = re.compile(r"^(libc|libm|libdl|librt|libpthread|libutil|libgcc_s|libstdc\+\+|libgomp|ld-linux-x86-64)\.so")
# Whose a symbol without version is, by its first letters; longer library names first.
OWNERS = (
    ("libnccl", "nccl"),
    ("libcufile", "cuFile"),
    ("libnvshmem_host", "nvshmem"),
    ("libcusparseLt", "cusparseLt"),
    ("libcusparse.", "cusparse"),
    ("libcurand", "curand"),
    ("libcublasLt", "cublasLt"),
    ("libcublas.", "cublas"),
    ("libcufft", "cufft"),
    ("libcudnn", "cudnn"),
    ("libnvrtc", "nvrtc"),
)


def make(torch_libraries, folder):
    """Puts into `folder` what the libraries in `torch_libraries` need and neither folder nor the system has."""
    torch = sorted(name for name in os.listdir(torch_libraries) if ".so" in name and name not in NOT_LOADED)
    there = set(torch) | set(os.listdir(folder))
    wanted = collections.defaultdict(set)  # library: {(symbol, version)}
    unversioned, defined = set(), set()
    for name in torch:
        path = os.path.join(torch_libraries, name)
        for library in re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", path)):
            if library not in there and not SYSTEM.match(library):
                wanted[library]  # wanted, even if nothing in it is
        files = version_files(path)
        for line in output("nm", "-D", path).splitlines():
            *_, kind, symbol = line.split()
            symbol, _, version = symbol.partition("@")
            version = version.lstrip("@")
            if kind not in "Uwv":
                defined.add(symbol)
            elif version in files:
                wanted_by_version = files[version]
                if wanted_by_version not in there and not SYSTEM.match(wanted_by_version):
                    wanted[wanted_by_version].add((symbol, version))
            elif not version and kind == "U":
                unversioned.add(symbol)
    for symbol in unversioned - defined:
        for library, prefix in OWNERS:
            owner = next((name for name in wanted if name.startswith(library)), None)
            if owner and symbol.startswith(prefix):
                wanted[owner].add((symbol, ""))
                break
    for library, symbols in wanted.items():
        link(os.path.join(folder, library), symbols)


def version_files(path):
    """Which library each version of a symbol belongs to."""
    files, library = {}, None
    for line in output("readelf", "-VW", path).splitlines():
        if match := re.search(r"File: (\S+)", line):
            library = match[1]
        if (match := re.search(r"Name: (\S+)\s+Flags", line)) and library:
            files[match[1]] = library
    return files


def link(path, symbols):
    name = os.path.basename(path)
    source = [
        "#include <stdio.h>",
        "#include <stdlib.h>",
        f'static void stop(void) {{ fputs("{name}: a stand-in without CUDA was called\\n", stderr); abort(); }}',
    ]
    source += [f"void {symbol}(void) {{ stop(); }}" for symbol in sorted({symbol for symbol, _ in symbols})]
    versions = collections.defaultdict(list)
    for symbol, version in sorted(symbols):
        if version:
            versions[version].append(symbol)
    with tempfile.TemporaryDirectory() as folder:
        c_file, map_file = os.path.join(folder, "stand_in.c"), os.path.join(folder, "versions")
        write(c_file, source)
        write(map_file, [f"{version} {{ global: {'; '.join(names)}; }};" for version, names in versions.items()])
        command = ["cc", "-shared", "-fPIC", "-O1", "-w", "-fno-builtin", f"-Wl,-soname,{name}", "-o", path, c_file]
        subprocess.run(command + ([f"-Wl,--version-script={map_file}"] if versions else []), check=True)


def write(path, lines):
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
