#!/usr/bin/env python3
"""Tries the agent on versions of MLflow: a server of each, runs that its own SDK writes meanwhile, and what comes back.

    python3 benches/mlflow_versions.py [VERSION ...] [--binary PATH] [--static-prefix /mlflow] [--keep]

Installs each version into an environment of its own (target/mlflow/VERSION, 0.4 GB), without the packages that neither
server nor SDK needs for this. A server (SQLite, proxied artifacts) gets three short runs, one of which diverges, while
`doodl3 watch` pulls from it and posts to it. Then the server is asked, through its REST interface, for each of the
things in CHECKS; and the agent is started again on the state that it left, which must change nothing. Between agent and
server a proxy takes notes, so that every request that the server refused can be told with its answer.

Prints a Markdown table of what held, and what did not below it; exits with 1 if anything did not. Without --binary the
agent is built (`cargo build`).
"""

import argparse
import collections
import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.parse
import urllib.request
import venv
from pathlib import Path

from peers import ROOT

VERSIONS = ["2.22.5", "3.1.4", "3.9.0", "3.17.2"]
ENVIRONMENTS = ROOT / "target" / "mlflow"
# What mlflow asks for, and what a server and its SDK do without here.
SPARED = {"docker", "matplotlib", "mlflow-tracing", "pyarrow", "scikit-learn", "scipy", "skops"}
# The trainer's, and what versions are known to break with: they ask for less than they need.
BESIDE = ["safetensors", "SQLAlchemy<2.1"]
EXPERIMENT = "versions"
RUNS, STEPS, DIVERGES = 3, 45, 2
CHECKS = [
    "state",  # every run has the tag doodl3.state
    "alert",  # the diverging run has doodl3.alert, which names what is not finite; no other has that
    "files",  # doodl3/report.html and doodl3/analysis.json of every run are listed, and come down whole
    "description",  # every run's description has our block
    "series",  # every run has doodl3/instability and doodl3/weight_norm
    "own run",  # the experiment has one run of ours, which has ended
    "none refused",  # no request of the agent was refused, but those that older servers do not know
    "quiet restart",  # the agent's second start writes nothing
]
# Older servers know them not, and the agent goes on without.
OPTIONAL = {"GET /api/3.0/mlflow/server-info": (404, 405)}
SEARCHES = ("/runs/search", "/experiments/search", "/logged-models/search")

TRAINER = """
import sys, tempfile, pathlib, time
import numpy as np
import mlflow
from safetensors.numpy import save_file
experiment, runs, steps, diverges = sys.argv[1], *map(int, sys.argv[2:])
client = mlflow.MlflowClient()
id = client.create_experiment(experiment)
handles = [client.create_run(id, run_name=f"seed-{run}") for run in range(runs)]
client.set_tag(handles[0].info.run_id, "mlflow.note.content", "Mine.")
rng = np.random.default_rng(1)
weights = [rng.uniform(-2, 2, 4) for _ in range(runs)]
folder = pathlib.Path(tempfile.mkdtemp())
for index in range(steps):
    for run, handle in enumerate(handles):
        w = 0.9 * weights[run] + 0.05 + 0.02 * rng.uniform(-1, 1, 4)
        if run == diverges and index >= 30:
            w = w * 3 if index < 34 else w * np.nan
        weights[run] = w
        loss = float(0.01 + ((w - 0.5) ** 2).sum())
        client.log_metric(handle.info.run_id, "train/loss", loss, step=10 * index)
        file = folder / f"step-{10 * index}.safetensors"
        save_file({"w": w.astype(np.float32)}, file)
        client.log_artifact(handle.info.run_id, str(file), "checkpoints")
    time.sleep(0.1)
for handle in handles:
    client.set_terminated(handle.info.run_id)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--binary", type=Path, help="a doodl3 that is built already")
    parser.add_argument("--static-prefix", default="", metavar="/PATH", help="where the server has its pages")
    parser.add_argument("--keep", action="store_true", help="keep the folder of each version, and say where it is")
    options = parser.parse_args()
    # So that processes end with this one, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binary = (options.binary or build()).resolve()
    outcomes = {}
    for version in options.versions:
        print(f"{version} ...", file=sys.stderr, flush=True)
        outcomes[version] = attempt(version, binary, options)
    print("| MLflow | " + " | ".join(CHECKS) + " |")
    print("|---|" + "---|" * len(CHECKS))
    for version, (failures, _) in outcomes.items():
        cells = ["no" if check in failures else "yes" for check in CHECKS]
        if "set-up" in failures:
            cells = ["—"] * len(CHECKS)
        print(f"| {version} | " + " | ".join(cells) + " |")
    for version, (failures, notes) in outcomes.items():
        for check, reason in failures.items():
            print(f"\n{version}: {check}: {reason}")
        for note in notes:
            print(f"\n{version}: {note}")
    sys.exit(any(failures for failures, _ in outcomes.values()))


def build():
    subprocess.run(["cargo", "build", "--locked", "--bins"], cwd=ROOT, check=True)
    return ROOT / "target/debug/doodl3"


def environment(version):
    """The interpreter of the environment with one version, made at first use."""
    folder = ENVIRONMENTS / version
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    venv.create(folder, clear=True)
    pip(python, "--no-deps", f"mlflow=={version}")
    code = "import importlib.metadata, json; print(json.dumps(importlib.metadata.requires('mlflow')))"
    asked = json.loads(subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout)
    name = re.compile(r"[\w.-]+")
    wanted = [line for line in asked if "extra ==" not in line and name.match(line)[0].lower() not in SPARED]
    pip(python, *wanted, *BESIDE)
    (folder / "ready").touch()
    return python


def pip(python, *packages):
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--only-binary=:all:", *packages]
    # What is spared it complains about at the end; that is not for show.
    answer = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if answer.returncode != 0:
        raise Failed(f"pip could not install {' '.join(packages)}: {answer.stdout[-2000:]}")


def attempt(version, binary, options):
    """What did not hold, by check, and what is worth a note."""
    folder = Path(tempfile.mkdtemp(prefix=f"mlflow-{version}-"))
    try:
        with contextlib.ExitStack() as stack:
            trial = Trial(version, binary, options, folder, stack)
            return trial.failures(), trial.notes
    except (Failed, subprocess.SubprocessError, OSError) as error:
        return {"set-up": str(error)}, []
    finally:
        if options.keep:
            print(f"{version}: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


class Failed(Exception):
    """What could not even be tried."""


class Trial:
    """One version's server and trainer, and the agent beside them."""

    def __init__(self, version, binary, options, folder, stack):
        self.version, self.binary, self.options, self.folder, self.stack = version, binary, options, folder, stack
        self.notes = []
        self.python = environment(version)
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}{options.static_prefix}"
        self.server = self.start("server", self.server_command(), **server_variables())
        self.wait_for_server()
        self.proxy = stack.enter_context(Proxy(self.port))
        (folder / "doodl3.yaml").write_text(
            textwrap.dedent(
                f"""\
                version: 1
                sources:
                  - mlflow:
                      name: lab
                      url: "http://127.0.0.1:{self.proxy.port}{options.static_prefix}"
                      experiments: [{EXPERIMENT}]
                      poll_every: 2s
                      requests_per_second: 50
                sinks:
                  - tracker: {{}}
                """
            )
        )

    def server_command(self):
        command = [self.python.parent / "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", self.folder / "artifacts"]
        if self.options.static_prefix:
            command += ["--static-prefix", self.options.static_prefix]
        return command

    def start(self, name, command, **variables):
        """A process with children of its own, which ends with the trial."""
        log = self.stack.enter_context(open(self.folder / f"{name}.log", "a"))
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=self.folder,
            env={**os.environ, **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.stack.callback(stop, process)
        return process

    def wait_for_server(self):
        end = time.monotonic() + 300
        while time.monotonic() < end:
            if self.server.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                if urllib.request.urlopen(self.base + "/health", timeout=5).status == 200:
                    return
            time.sleep(0.5)
        raise Failed(f"the server did not start: {tail(self.folder / 'server.log')}")

    def failures(self):
        agent = self.agent()
        trainer = self.start(
            "trainer",
            [self.python, "-W", "ignore", "-c", TRAINER, EXPERIMENT, RUNS, STEPS, DIVERGES],
            MLFLOW_TRACKING_URI=self.base,
            MLFLOW_DISABLE_TELEMETRY="true",
        )
        if trainer.wait(timeout=600) != 0:
            raise Failed(f"the trainer failed: {tail(self.folder / 'trainer.log')}")
        self.settle(agent)
        failures = {}
        for check, found in [
            *self.of_runs(),
            ("own run", self.own_run()),
            ("none refused", self.refused()),
            ("quiet restart", self.restart(agent)),
        ]:
            if found and check not in failures:
                failures[check] = found
        if failures:
            lines = tail(self.folder / "agent.log", 400).splitlines()
            warnings = [line.split(" ", 1)[1] for line in lines if re.search("WARN (?!alert)", line)]
            self.notes += list(dict.fromkeys(warnings))[:10]
        return failures

    def agent(self):
        command = [self.binary, "watch", "-v", "-c", "doodl3.yaml", "--state-dir", "state"]
        return self.start("agent", command, NO_COLOR="1")

    def settle(self, agent, quiet=12, longest=240):
        """Waits until the agent has not written for a while."""
        end = time.monotonic() + longest
        since = time.monotonic()
        while time.monotonic() < end:
            if agent.poll() is not None:
                raise Failed(f"the agent ended with {agent.returncode}: {tail(self.folder / 'agent.log')}")
            if time.monotonic() - max(since, self.proxy.last_write) > quiet:
                return
            time.sleep(0.5)
        self.notes.append(f"the agent still writes {longest} s after the runs' end")

    # What came back

    def of_runs(self):
        """Each check of the user's runs, with what is wrong; several times where several runs are."""
        runs = [run for run in self.runs() if "doodl3.role" not in tags(run)]
        if len(runs) != RUNS:
            raise Failed(f"{len(runs)} runs are there instead of {RUNS}")
        for run in runs:
            name, key, said = run["info"]["run_name"], run["info"]["run_id"], tags(run)
            yield "state", None if said.get("doodl3.state") else f"{name} has no tag doodl3.state, but {sorted(said)}"
            alert, bad = said.get("doodl3.alert"), name == f"seed-{DIVERGES}"
            right = "nonfinite" in re.sub("[^a-z]", "", (alert or "").lower()) if bad else not alert
            yield "alert", None if right else f"{name} has doodl3.alert {alert!r}"
            note = said.get("mlflow.note.content", "")
            block = re.search("<!-- doodl3 begins -->.+<!-- doodl3 ends -->", note, re.DOTALL)
            kept = name != "seed-0" or note.startswith("Mine.")
            yield "description", None if block and kept else f"{name} is described as {note[:200]!r}"
            keys = {metric["key"] for metric in run["data"].get("metrics", [])}
            lacking = {"doodl3/instability", "doodl3/weight_norm"} - keys
            if not lacking:
                # Without max_results 3.1 answers with none.
                query = {"run_id": key, "metric_key": "doodl3/instability", "max_results": 1000}
                points = self.api("metrics/get-history", **query).get("metrics", [])
                lacking = "" if len(points) >= STEPS // 2 else f"all but {len(points)} points of doodl3/instability"
            yield "series", f"{name} lacks {lacking}" if lacking else None
            yield "files", self.files(name, run)

    def files(self, name, run):
        key = run["info"]["run_id"]
        listed = {file["path"]: file for file in self.api("artifacts/list", run_id=key, path="doodl3").get("files", [])}
        for path in ("doodl3/report.html", "doodl3/analysis.json"):
            size = int(listed.get(path, {}).get("file_size", 0))
            if not size:
                return f"{name}: {path} is not listed among {sorted(listed)}"
            query = urllib.parse.urlencode({"run_id": key, "path": path})
            with urllib.request.urlopen(f"{self.base}/get-artifact?{query}", timeout=60) as answer:
                if len(answer.read()) != size:
                    return f"{name}: {path} comes down in another size than {size}"
        return None

    def own_run(self):
        own = [run["info"] for run in self.runs() if tags(run).get("doodl3.role") == "experiment"]
        if len(own) != 1 or own[0]["status"] != "FINISHED":
            return f"there are {[(run['run_name'], run['status']) for run in own]}"
        return None

    def refused(self):
        """The refusals, the same ones once."""
        seen = collections.Counter()
        for method, path, _, status, body in self.proxy.notes:
            route = f"{method} {path.split('?')[0].removeprefix(self.options.static_prefix)}"
            if status >= 400 and status not in OPTIONAL.get(route, ()):
                text = " ".join(re.sub("<[^>]*>", " ", body).split())[:400]
                seen[f"{re.sub('[0-9a-f]{32}', 'RUN', route)} was answered with {status}: {text}"] += 1
        return "; ".join(f"{count} x {text}" for text, count in seen.items()) or None

    def restart(self, agent):
        stop(agent)
        if agent.returncode != 0:
            return f"the agent ended with {agent.returncode}: {tail(self.folder / 'agent.log')}"
        (before, noted) = self.contents(), len(self.proxy.notes)
        again = self.agent()
        time.sleep(5)
        self.settle(again)
        stop(again)
        asked = self.proxy.notes[noted:]
        writes = [f"{method} {path}" for method, path, writes, *_ in asked if writes]
        if not asked:
            return "the second start asks nothing"
        if writes:
            return f"the second start writes {collections.Counter(writes).most_common(5)}"
        return None if self.contents() == before else "the runs differ after the second start"

    def contents(self):
        """Tags, metrics and files of all runs."""
        files = sorted((str(path), path.stat().st_mtime_ns) for path in (self.folder / "artifacts").rglob("*"))
        return json.dumps(sorted(self.runs(), key=lambda run: run["info"]["run_id"])), files

    def runs(self):
        found = self.api("experiments/get-by-name", experiment_name=EXPERIMENT)
        body = json.dumps({"experiment_ids": [found["experiment"]["experiment_id"]], "max_results": 100}).encode()
        request = urllib.request.Request(
            f"{self.base}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
        )
        return json.load(urllib.request.urlopen(request, timeout=60)).get("runs", [])

    def api(self, route, **query):
        address = f"{self.base}/api/2.0/mlflow/{route}?{urllib.parse.urlencode(query)}"
        return json.load(urllib.request.urlopen(address, timeout=60))


class Proxy:
    """Passes requests on to a server of this machine, and notes what was asked and answered."""

    def __init__(self, server):
        proxy = self
        # Method, path, whether it writes, status, and what a refusal says.
        self.notes = []
        self.last_write = 0.0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                writes = self.command != "GET" and not self.path.endswith(SEARCHES)
                connection = http.client.HTTPConnection("127.0.0.1", server, timeout=120)
                try:
                    headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    content = answer.read()
                finally:
                    connection.close()
                refusal = content.decode(errors="replace") if answer.status >= 400 else ""
                proxy.notes.append((self.command, self.path, writes, answer.status, refusal))
                if writes:
                    proxy.last_write = time.monotonic()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "content-length", "transfer-encoding", "keep-alive"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                with contextlib.suppress(ConnectionError):  # the agent was stopped meanwhile
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

            def log_message(self, *_):
                pass

        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.listener.daemon_threads = True
        self.port = self.listener.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown()
        self.listener.server_close()


def server_variables():
    # Job runners are seven processes and a gigabyte; the telemetry is the vendor's.
    return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def tags(run):
    return {tag["key"]: tag.get("value", "") for tag in run["data"].get("tags", [])}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def tail(log, lines=15):
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def stop(process):
    """Ends a process and its children: politely, then not."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            pass
    # Children that are left keep the group alive.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    main()
