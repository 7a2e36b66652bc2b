"""What the live checks need to run: a gateway, a proxy, an upstream that only notes what it is sent. All listen on free ports of
127.0.0.1, write into one temporary directory, and are ended with it."""

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
# Heartbeats and time-outs of proxies are divided by this, so that two minutes pass within five seconds.
TIMES_FASTER = 25
# A shorter time-out would be met by the machine's own hiccups.
LEAST_MILLISECONDS = 1500
START_SECONDS = 20
KEY = "gwk_0badcafe_" + "k" * 43
SECRET = "a secret of this check alone, forty bytes"


class Failed(Exception):
    """The check cannot go on, and why."""


def token(user):
    """A token as the back end would sign it, good for ten minutes."""
    now = int(time.time())
    claims = {"sub": user, "exp": now + 600, "aud": "https://localhost", "iss": "https://app.example"}
    parts = [coded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = hmac.new(SECRET.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, coded(signature)])


def coded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def with_keys_in(directory, settings):
    """The settings with the files of keys in this directory, where they are written."""
    keys = Path(directory, "api-keys.toml")
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    keys.write_text(f'[[key]]\nid = "0badcafe"\nname = "check"\nscopes = ["send", "read", "admin"]\nsha256 = "{hashed}"\n')
    secret = Path(directory, "token-key")
    secret.write_text(SECRET)
    # The gateway warns of secrets that everybody on the machine may read.
    for file in (keys, secret):
        file.chmod(0o600)
    return settings.replace("/etc/notification-gateway/", f"{directory}/")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def faster(text):
    """The text of a proxy's configuration with every time-out in seconds divided."""
    def shorter(match):
        return f"{max(LEAST_MILLISECONDS, int(match[1]) * 1000 // TIMES_FASTER)}ms"

    return re.sub(r"\b(\d+)s(?=[;\s])", shorter, text)


class Stage:
    """Everything that was started, as a context that ends it."""

    def __init__(self):
        self.started = []

    def __enter__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="deploy-"))
        self.certificate = (self.directory / "certificate.pem", self.directory / "certificate.key")
        made = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
             "-out", self.certificate[0], "-keyout", self.certificate[1]],
            capture_output=True, text=True)  # fmt: skip
        if made.returncode != 0:
            raise Failed(f"openssl: {made.stderr}")
        return self

    def __exit__(self, *failure):
        for process in reversed(self.started):
            stop(process)
        shutil.rmtree(self.directory)

    def start(self, name, command, settings=None):
        """Starts a program; what it says is in a file."""
        # Appended to, because nginx opens its standard output once more for its log.
        output = open(self.output(name), "a")
        surroundings = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory)}
        process = subprocess.Popen(
            [str(one) for one in command], env=surroundings | (settings or {}), cwd=self.directory, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT)  # fmt: skip
        output.close()
        self.started.append(process)
        return process

    def output(self, name):
        return self.directory / f"{name}.output"

    def said(self, name):
        return self.output(name).read_text(errors="replace")

    def line(self, name, *parts):
        """The first line with all these parts that a program says, or empty if it does not say it soon."""
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            found = [line for line in self.said(name).splitlines() if all(part in line for part in parts)]
            if found:
                return found[0]
            time.sleep(0.02)
        return ""

    def gateway(self, program):
        """Starts a gateway with the configuration for production, at other places; gives its port and the operators'."""
        text = with_keys_in(self.directory, (DEPLOY / "gateway.production.toml").read_text())
        text = text.replace("push.example", "localhost")
        text = text.replace("/var/lib/notification-gateway", f"{self.directory}/log")
        # The machine of a test may have less room than one of production.
        text = re.sub(r'^disk_reserve = .*$|^max_connections = .*$|^max_total = .*$', "", text, flags=re.MULTILINE)
        ports = free_port(), free_port()
        for was, port in zip((8000, 9464), ports):
            text = text.replace(f'listen = "127.0.0.1:{was}"', f'listen = "127.0.0.1:{port}"')
        (self.directory / "gateway.toml").write_text(text)
        heartbeat = f"{1000 * 25 // TIMES_FASTER}ms"
        settings = {"GATEWAY_SESSIONS_HEARTBEAT": heartbeat}
        process = self.start("gateway", [program, "serve", "--config", self.directory / "gateway.toml"], settings)
        self.listening("gateway", process, ports[0])
        return process, *ports

    def nginx(self, text, upstream, name):
        """Starts nginx with a snippet of ours; gives its process and port."""
        port = free_port()
        text = faster(text).replace("127.0.0.1:8000", f"127.0.0.1:{upstream}").replace("push.example", "localhost")
        text = re.sub(r"listen 443 ", f"listen 127.0.0.1:{port} ", text)
        text = re.sub(r"listen 80;", f"listen 127.0.0.1:{free_port()};", text)
        text = re.sub(r"^ *listen \[::\].*\n", "", text, flags=re.MULTILINE)
        for was, file in zip(("fullchain.pem", "privkey.pem"), self.certificate):
            text = text.replace(f"/etc/ssl/localhost/{was}", str(file))
        home = self.directory / name
        home.mkdir()
        (home / "snippet.conf").write_text(text)
        places = " ".join(f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (home / "nginx.conf").write_text(
            # Its worker may write where we may.
            f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {home}/pid; error_log stderr info;\n"
            f"events {{ worker_connections 1024; }}\n"
            f"http {{ access_log /dev/stdout; {places} include {home}/snippet.conf; }}\n")
        command = ["nginx", "-p", home, "-c", home / "nginx.conf"]
        tested = subprocess.run([*map(str, command), "-t"], capture_output=True, text=True)
        if tested.returncode != 0:
            raise Failed(f"nginx: {tested.stderr}")
        process = self.start(name, command)
        self.listening(name, process, port)
        return process, port

    def caddy(self, text, upstream, name):
        """Starts Caddy with our file; gives its process and port."""
        port = free_port()
        text = faster(text).replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
        text = text.replace("\tadmin off\n", f"\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n"
                                             f"\thttps_port {port}\n\tdefault_bind 127.0.0.1\n")
        text = text.replace("push.example {", f"localhost {{\n\ttls {self.certificate[0]} {self.certificate[1]}")
        home = self.directory / name
        home.mkdir()
        (home / "Caddyfile").write_text(text)
        process = self.start(name, ["caddy", "run", "--adapter", "caddyfile", "--config", home / "Caddyfile"])
        self.listening(name, process, port)
        return process, port

    def listening(self, name, process, port):
        """Waits until something accepts connections there."""
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Failed(f"{name} did not start:\n{self.said(name)}")


def stop(process):
    """Ends a process that we started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Recorder:
    """An upstream that notes the headers of each request, agrees to upgrades, and streams one event without saying that it
    must not be held back."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heads = {}
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection:
            received = b""
            while b"\r\n\r\n" not in received:
                more = connection.recv(65536)
                if not more:
                    return
                received += more
            head, _, body = received.partition(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").split("\r\n")
            path = line.split(" ")[1]
            self.heads[path] = [(name.lower(), value.strip()) for name, _, value in (one.partition(":") for one in fields)]
            missing = sum(int(value) for value in self.header(path, "content-length")) - len(body)
            while missing > 0 and (more := connection.recv(65536)):
                missing -= len(more)
            if path.startswith("/sse/"):
                event = b"data: now\n\n"
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                                   + b"%x\r\n%s\r\n" % (len(event), event))  # fmt: skip
                # Open until the proxy has enough of it.
                connection.recv(1)
            elif path.startswith("/ws/"):
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    def header(self, path, name):
        """Every value of a header that came with the request for a path."""
        return [value for known, value in self.heads.get(path, []) if known == name]
