"""Python packages as files: found through pip's own index, fetched with resumption, verified by hash.

pip throws away what it has when a download breaks; half a gigabyte over a bad line then never arrives. So the file is
fetched here, into NAME.part, and continued from there the next time. Should pip's index speak in a way that this
module does not know, pip fetches the file itself.
"""

import base64
import collections
import functools
import hashlib
import html.parser
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

Wheel = collections.namedtuple("Wheel", "project version filename size sha256")

TRIES = 5


class Problem(Exception):
    """What went wrong and what to do about it, in words for the person at the terminal."""


class Unanswered(Exception):
    """The index answered, but not with what is looked for."""


def say(text):
    print(f"set-up: {text}", file=sys.stderr, flush=True)


def megabytes(size):
    return f"{size / 1e6:,.0f} MB"


def fetch(wheel, folder):
    """The path of the verified wheel in `folder`, downloaded if it is not there."""
    path = os.path.join(folder, wheel.filename)
    if os.path.exists(path):
        if digest(path) == wheel.sha256:
            return path
        say(f"{wheel.filename} is damaged: fetching it again")
        os.remove(path)
    part = path + ".part"
    try:
        download(wheel, find(wheel), part)
    except Unanswered as reason:
        say(f"pip's index cannot be read directly ({reason}): leaving {wheel.filename} to pip, which cannot resume")
        return fetch_by_pip(wheel, folder)
    if digest(part) != wheel.sha256:
        os.remove(part)
        raise Problem(
            f"{wheel.filename} does not have the expected sha256 sum and was removed: "
            "run the set-up again; if it happens again, something between here and the index alters files"
        )
    os.replace(part, path)
    return path


def missing_bytes(wheel, folder):
    """How much of the wheel is still to be downloaded."""
    path = os.path.join(folder, wheel.filename)
    for candidate in (path, path + ".part"):
        if os.path.exists(candidate):
            return max(0, wheel.size - os.path.getsize(candidate))
    return wheel.size


def digest(path):
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            sha256.update(block)
    return sha256.hexdigest()


# Finding the file


def find(wheel):
    """The file's address on pip's index."""
    index = index_url()
    page = urllib.parse.urljoin(index.rstrip("/") + "/", wheel.project + "/")
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
    try:
        with open_url(page, {"Accept": accept}) as answer:
            kind = answer.headers.get_content_type()
            text = answer.read(64 << 20).decode("utf-8", "replace")
            base = answer.geturl()
    except urllib.error.HTTPError as error:
        raise Unanswered(f"status {error.code}")
    except (OSError, http.client.HTTPException) as error:
        raise no_network(error, index, wheel)
    if kind.endswith("json"):
        links = [(file["filename"], file["url"]) for file in json.loads(text)["files"]]
    else:
        parser = Links()
        parser.feed(text)
        links = parser.links
    for name, address in links:
        if name == wheel.filename:
            return urllib.parse.urljoin(base, address.split("#")[0])
    raise Unanswered(f"it does not list {wheel.filename}")


class Links(html.parser.HTMLParser):
    """The links of an index page in HTML, by the last part of their address."""

    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attributes):
        address = dict(attributes).get("href") if tag == "a" else None
        if address:
            path = urllib.parse.urlsplit(address).path
            self.links.append((urllib.parse.unquote(path.rsplit("/", 1)[-1]), address))


@functools.lru_cache(maxsize=None)
def index_url():
    """Where pip looks: as configured (file or environment), else pip's own default."""
    configured = pip_settings()
    if configured.get("no-index", "0").lower() not in ("0", "false", "no", "off", ""):
        raise Unanswered("pip is configured to use none")
    if "index-url" in configured:
        return configured["index-url"].split()[0]
    code = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if answer.returncode != 0:
        raise Unanswered("this pip keeps its default elsewhere")
    return answer.stdout.strip()


@functools.lru_cache(maxsize=None)
def pip_settings():
    """pip's configuration by option; the environment comes before a command's section, and that before the rest."""
    answer = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    if answer.returncode != 0:
        raise Problem(
            f"{sys.executable} has no working pip: on Debian or Ubuntu: apt install python3-pip python3-venv; "
            "elsewhere: python3 -m ensurepip (PYTHON=/path chooses another python)"
        )
    order = {"global": 0, "download": 1, ":env:": 2}
    found = {}
    for line in answer.stdout.splitlines():
        match = re.match(r"(:env:|\w+)\.([\w-]+)=(['\"])(.*)\3$", line)
        if match and match[1] in order:
            rank = order[match[1]]
            if match[2] not in found or found[match[2]][0] < rank:
                found[match[2]] = (rank, match[4])
    return {option: value for option, (_, value) in found.items()}


def open_url(address, headers):
    """Opens an address as pip would: proxies of the environment, pip's certificates, credentials in the address."""
    parts = urllib.parse.urlsplit(address)
    if parts.username:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers = dict(headers, Authorization="Basic " + base64.b64encode(pair.encode()).decode())
        parts = parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1])
        address = urllib.parse.urlunsplit(parts)
    context = ssl.create_default_context()
    certificates = pip_settings().get("cert")
    if certificates:
        context.load_verify_locations(certificates)
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60, context=context)


# Getting it


def download(wheel, address, part):
    """Downloads into `part`, from where an earlier attempt ended."""
    reason = None
    for attempt in range(TRIES):
        if attempt:
            say(f"the download broke ({reason}); going on from {megabytes(os.path.getsize(part))}")
            time.sleep(2**attempt)
        try:
            if continue_download(wheel, address, part):
                return
            reason = "the connection was closed"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise Unanswered(f"status {error.code} for the file")
            reason = f"status {error.code}"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) == 28:
                raise Problem(f"the disk is full: {part} is kept; make room and run the set-up again")
            reason = error
        if not os.path.exists(part):
            open(part, "wb").close()
    raise no_network(reason, address, wheel)


def continue_download(wheel, address, part):
    """One connection's worth; true when the file is whole."""
    start = os.path.getsize(part) if os.path.exists(part) else 0
    if start > wheel.size:
        os.remove(part)
        start = 0
    if start == wheel.size:
        return True
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with open_url(address, headers) as answer:
        if start and answer.status != 206:
            start = 0  # the server does not resume: it sends the whole file
        with open(part, "ab" if start else "wb") as file:
            if start:
                say(f"continuing {wheel.filename} at {megabytes(start)} of {megabytes(wheel.size)}")
            else:
                say(f"fetching {wheel.filename} ({megabytes(wheel.size)})")
            progress = Progress(wheel.size, start)
            for block in iter(lambda: answer.read(1 << 18), b""):
                file.write(block)
                progress.add(len(block))
            progress.end()
    return os.path.getsize(part) == wheel.size


class Progress:
    """Percent on a terminal; a line for every quarter elsewhere."""

    def __init__(self, total, done):
        self.total, self.done, self.live = total, done, sys.stderr.isatty()
        self.shown = self.share()

    def share(self):
        return self.done * (100 if self.live else 4) // self.total

    def add(self, size):
        self.done += size
        if self.share() > self.shown:
            self.shown = self.share()
            if self.live:
                print(f"\r  {self.shown} %", end="", file=sys.stderr, flush=True)
            elif self.total > 50_000_000:
                say(f"  {self.shown * 25} %")

    def end(self):
        if self.live:
            print("\r       \r", end="", file=sys.stderr, flush=True)


def fetch_by_pip(wheel, folder):
    """The same by `pip download`, which checks the hash itself."""
    requirements = os.path.join(folder, "requirements.txt")
    with open(requirements, "w") as file:
        file.write(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    python, abi, platforms = wheel.filename[: -len(".whl")].rsplit("-", 3)[1:]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--no-cache-dir", "-d", folder, "-r", requirements, "--implementation", "cp", "--abi", abi]
    command += ["--python-version", python[2:] if python.startswith("cp") else "311"]
    for platform in platforms.split("."):
        command += ["--platform", platform]
    try:
        failed = subprocess.run(command).returncode != 0
    finally:
        os.remove(requirements)
    path = os.path.join(folder, wheel.filename)
    if failed or not os.path.exists(path):
        raise Problem(f"pip could not fetch {wheel.filename} (its words are above); " + by_hand(wheel))
    return path


def no_network(reason, address, wheel):
    host = urllib.parse.urlsplit(address).hostname
    reason = getattr(reason, "reason", reason)
    return Problem(
        f"no connection to {host}: {reason}\n"
        "  Is there a network, or a proxy to name in HTTPS_PROXY, or a mirror to name in PIP_INDEX_URL?\n"
        f"  What has arrived is kept: run the set-up again to go on. Without network: {by_hand(wheel)}"
    )


def by_hand(wheel):
    return (
        f"put {wheel.filename} (project {wheel.project}, from any machine's `pip download --no-deps`) into "
        "third_party/downloads/, or point LIBTORCH to a libtorch 2.13, or set LIBTORCH_USE_PYTORCH=1 to use the "
        "PyTorch 2.13 of your python"
    )


def check_space(folder, needed, purpose):
    """Refuses before anything is fetched, rather than half-way."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Problem(
            f"not enough disk space in {folder}: {purpose} needs {megabytes(needed)}, {megabytes(free)} are free"
        )
