#!/usr/bin/env bash
# Makes this clone ready to build: checks the tools, then puts libtorch 2.13 into third_party/.
#
#   scripts/setup.sh            what the build and the demonstration need
#   scripts/setup.sh --python   and the tests' Python environments: PyTorch to compare with, MLflow, the W&B SDK
#
# Runs again at no cost, and continues where it was interrupted. A libtorch of your own is taken with LIBTORCH=/path,
# a PyTorch 2.13 of your own with LIBTORCH_USE_PYTORCH=1.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { # need COMMAND HINT
  command -v "$1" >/dev/null 2>&1 || missing+=("$1: $2")
}
debian="on Debian or Ubuntu: apt install"
need cargo "the Rust toolchain; install rustup (see rust-lang.org), then: rustup toolchain install stable"
need make "$debian make"
need cc "a C compiler; $debian gcc"
need c++ "a C++17 compiler, for libtorch's bindings; $debian g++"
PYTHON=${PYTHON:-python3}
need "$PYTHON" "Python 3.8 or newer, which fetches libtorch; $debian python3 python3-pip python3-venv"
if [[ " $* " == *" --python "* ]]; then
  need readelf "$debian binutils"
  need nm "$debian binutils"
fi
if (( ${#missing[@]} )); then
  echo "set-up: these tools are missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
have=$(rustc --version 2>/dev/null | cut -d' ' -f2)
if [[ $(printf '%s\n' "$wanted" "${have:-0}" | sort -V | head -n 1) != "$wanted" ]]; then
  echo "set-up: Rust ${have:-(rustc does not run)} is too old, doodl3 needs $wanted or newer: rustup update stable" >&2
  exit 1
fi
if ! echo 'int main() { return sizeof(char) == 1 ? 0 : 1; }' | c++ -std=c++17 -x c++ -o /dev/null - 2>/dev/null; then
  echo "set-up: c++ cannot compile and link a C++17 program; $debian g++" >&2
  exit 1
fi
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 8))' || {
  echo "set-up: $("$PYTHON" --version) is too old, the set-up needs Python 3.8 or newer (PYTHON=/path chooses one)" >&2
  exit 1
}

"$PYTHON" -B scripts/libtorch.py
if [[ " $* " == *" --python "* ]]; then
  "$PYTHON" -B scripts/python_environment.py
  "$PYTHON" -B scripts/tracker_environments.py
fi
