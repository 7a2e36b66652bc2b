"""The processes of the live test: gateways, a Prometheus that scrapes every second, load tests. All listen on free ports
of 127.0.0.1, keep what they write in one temporary directory, and are ended with it."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

GRAFANA = Path(__file__).resolve().parent.parent.parent
# How often a condition is asked for that nothing announces.
PAUSE_SECONDS = 0.2
STOP_SECONDS = 20


class Failed(Exception):
    """The test cannot go on, and why."""


@dataclass
class Gateway:
    """One that runs: its process, and where it listens."""

    process: subprocess.Popen
    public: str
    operators: str
    # What is shown to it; None: it has no keys.
    credential: str | None = None


class Stage:
    """Everything that was started, as a context that ends it."""

    def __init__(self, gateway_binary, load_test_binary):
        self.gateway_binary, self.load_test_binary = gateway_binary, load_test_binary
        self.started = []

    def __enter__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="dashboards-"))
        return self

    def __exit__(self, *failure):
        for process in reversed(self.started):
            stop(process)
        shutil.rmtree(self.directory)

    def gateway(self, name, settings, log, at=None):
        """Starts a gateway and waits until it says where it listens; `at` is one whose addresses it takes over."""
        public, operators = (at.public, at.operators) if at else ("127.0.0.1:0", "127.0.0.1:0")
        command = [self.gateway_binary, "--listen", public, "--ops-listen", operators, "--log", log]
        process = self.start(name, command, settings)
        found = {}
        # The end of the output, if the process ends, ends this, too.
        for line in process.stdout:
            for key, said in (("public", r"manual +http://([\d.:]+)/"), ("operators", r"metrics +http://([\d.:]+)/")):
                match = re.search(said, line)
                if match:
                    found[key] = match.group(1)
            if len(found) == 2:
                return Gateway(process, **found)
        raise Failed(f"the gateway {name} did not start:\n{self.said(name)}")

    def prometheus(self, gateways, load_test, every="1s"):
        """Starts a Prometheus that scrapes so often, with the rules of this repository; alerts do not wait before they fire, nor rules until a process
        is half an hour old or for what nodes gained in a quarter of an hour, or the test would."""
        rules = self.directory / "rules"
        rules.mkdir()
        for path in (GRAFANA / "prometheus" / "rules").glob("*.yml"):
            text = re.sub(r"^( *for:) .*$", r"\1 0s", path.read_text(), flags=re.MULTILINE)
            text = re.sub(r"(process_start_time_seconds\S* <) [\d *]+", r"\1 0", text)
            text = text.replace("gateway_ledger_accepted_total[1m]", "gateway_ledger_accepted_total[3s]")
            (rules / path.name).write_text(text.replace("[3s] offset 15m", "[3s] offset 5s"))
        address = free_address()
        configuration = self.directory / "prometheus.yml"
        configuration.write_text(
            f"global: {{scrape_interval: {every}, scrape_timeout: {every}, evaluation_interval: {every}}}\n"
            "rule_files: [rules/*.yml]\n"
            "scrape_configs:\n"
            + "".join(f"  - {{job_name: {job}, static_configs: [{{targets: {targets}}}]}}\n" for job, targets in (
                ("gateway", [gateway.operators for gateway in gateways]), ("loadtest", [load_test]),
                ("prometheus", [address]))))
        self.start("prometheus", [
            "prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={self.directory / 'series'}",
            f"--web.listen-address={address}", "--enable-feature=exemplar-storage", "--log.level=warn"])
        until("Prometheus is ready", lambda: fetched(f"http://{address}/-/ready"), 30)
        return f"http://{address}"

    def load_test(self, scenario, gateway, metrics, *options):
        """Starts a load test; it ends by itself."""
        command = [self.load_test_binary, scenario, "--url", f"http://{gateway.public}", "--ops-url",
                   f"http://{gateway.operators}", "--metrics-listen", metrics, "--linger", "5s", "--settle", "1s",
                   "--warm-up", "1s", "--quiet", *options]
        return self.start(f"loadtest-{scenario}", command)

    def nats(self):
        """Starts a nats-server with JetStream, and gives its address."""
        address = free_address()
        host, port = address.split(":")
        command = [nats_server(), "--jetstream", "--store_dir", self.directory / "nats", "--addr", host, "--port", port]
        self.start("nats", command)
        until("nats-server listens", lambda: listens(host, int(port)), 20)
        return f"nats://{address}"

    def said_by(self, *arguments):
        """What the gateway's program prints."""
        return subprocess.run([self.gateway_binary, *arguments], capture_output=True, text=True, check=True).stdout

    def new_key(self, name, scopes):
        """A key and its block for the file of keys."""
        printed = self.said_by("key", "new", "--name", name, "--scopes", scopes)
        return re.search(r"# key: (\S+)", printed).group(1), printed[printed.index("[[key]]"):] + "\n"

    def start(self, name, command, settings=()):
        """Starts a process, with these settings and none that the shell happens to have. Standard error goes to a file: a
        pipe that nobody reads would stop it."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("GATEWAY_", "OTEL_"))}
        with open(self.directory / f"{name}.err", "a", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [str(part) for part in command], cwd=self.directory, env=inherited | dict(settings), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=errors, text=True)
        self.started.append(process)
        return process

    def ended(self):
        """What is known of Prometheus if it has ended by itself."""
        codes = [process.poll() for process in self.started if "prometheus" in str(process.args[0])]
        return [f"Prometheus ended with {code}: {self.said('prometheus')}" for code in codes if code is not None]

    def said(self, name):
        """The last lines that a process wrote to standard error."""
        return "\n".join((self.directory / f"{name}.err").read_text().splitlines()[-20:])


def stop(process):
    """Asks a process to end, and makes it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    process.stdout.close()


def until(what, holds, seconds):
    """Waits until something is true, and gives it; there is no event to wait for in another process."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(PAUSE_SECONDS)


def nats_server():
    """Where nats-server is; Debian keeps it where only root looks. None if there is none."""
    return shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")


def listens(host, port):
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def replace(path, text):
    """Another content of a file, in one step: one that is written in place is empty for a moment, and so says something else."""
    written = path.with_suffix(".new")
    written.write_text(text)
    os.replace(written, path)


def fetched(address):
    """The text at an address; None while nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def free_address():
    """An address of 127.0.0.1 that was free a moment ago: a process that has to be told its port has no better way."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % listener.getsockname()[1]
