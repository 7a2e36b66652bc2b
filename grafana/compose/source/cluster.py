"""What nats-server and nginx make of the files of the profile `cluster`: both are run with them, on free ports of 127.0.0.1."""

import contextlib
import functools
import http.client
import http.server
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

FILES = Path(__file__).resolve().parent.parent / "cluster"
NATS = {"nats-1", "nats-2", "nats-3"}
GATEWAYS = {"gateway-1", "gateway-2"}


@functools.cache
def complaints_of_nats(text):
    found = []
    if "\n    sync_interval: always\n" not in text:
        found.append("answers before it has written")
    routes = set(re.findall(r"nats://([\w-]+):6222", text))
    if routes != NATS:
        found.append(f"has routes to {', '.join(sorted(routes))}")
    with tempfile.TemporaryDirectory() as scratch:
        # 2.9 does not know it.
        text = re.sub(r"\n    sync_interval: always\n", "\n", text).replace("/data", scratch)
        Path(scratch, "nats.conf").write_text(text)
        checked = subprocess.run(
            ["nats-server", "-t", "-c", f"{scratch}/nats.conf"], env=os.environ | {"SERVER_NAME": "nats-1"},
            capture_output=True, text=True)  # fmt: skip
    if checked.returncode != 0:
        found.append(f"nats-server says {checked.stderr}")
    return found


@functools.cache
def complaints_of_nginx(text):
    found = []
    for upstream, inside in re.findall(r"^upstream (\w+) \{\n(.*?)^\}", text, flags=re.MULTILINE | re.DOTALL):
        servers = set(re.findall(r"^    server ([\w-]+):8000 resolve;$", inside, flags=re.MULTILINE))
        if servers != GATEWAYS:
            found.append(f"{upstream} leads to {', '.join(sorted(servers)) or 'nobody'}")
    found += nginx_misleads(text)
    return found


def nginx_misleads(text):
    """Runs nginx with the file before upstreams that say who they are and what they were asked."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(upstream(name)) for name in sorted(GATEWAYS)}
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        # 1.22 does not know `resolve`, and there is no resolver here.
        text = re.sub(r"^resolver\w* .*\n", "", text, flags=re.MULTILINE).replace(" resolve;", ";")
        text = text.replace("listen 8000", f"listen 127.0.0.1:{port}")
        for name, own in ports.items():
            text = text.replace(f"{name}:8000", f"127.0.0.1:{own}")
        Path(scratch, "nginx.conf").write_text(
            f"daemon off; master_process off; pid {scratch}/pid; error_log stderr;\nevents {{}}\nhttp {{\n access_log off;\n"
            + "".join(f" {kind}_temp_path {scratch}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + text + "}\n")  # fmt: skip
        command = ["nginx", "-e", "stderr", "-p", scratch, "-c", f"{scratch}/nginx.conf"]
        tested = subprocess.run([*command, "-t"], capture_output=True, text=True)
        if tested.returncode != 0:
            return [f"nginx says {tested.stderr}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return list(led_wrongly(port))
        finally:
            process.terminate()
            process.wait()


def led_wrongly(port):
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    # An odd number, so that turns are no answer.
    users = [f"user%20{number}" for number in range(41)]
    sockets = [asked(port, f"/ws/{user}?after=start", upgrade) for user in users]
    streams = [asked(port, f"/sse/{user}") for user in users]
    if [one["name"] for one in sockets] != [one["name"] for one in streams]:
        yield "a user's socket and stream go to different gateways"
    if {one["name"] for one in sockets} != GATEWAYS:
        yield "all users go to one gateway"
    if {asked(port, "/v1/notifications")["name"] for _ in range(20)} != GATEWAYS:
        yield "all sends go to one gateway"
    first, other = sockets[0], asked(port, "/docs")
    if first["path"] != f"/ws/{users[0]}?after=start":
        yield f"the path becomes {first['path']}"
    if (first["upgrade"], first["connection"]) != ("websocket", "upgrade"):
        yield "an upgrade does not get through"
    if other["upgrade"] or other["connection"]:
        yield "what asks for no upgrade gets one"
    if first["host"] != f"127.0.0.1:{port}":
        yield f"the host becomes {first['host']}"
    if first["x-forwarded-for"] != "127.0.0.1":
        yield f"the client's address becomes {first['x-forwarded-for']}"
    if asked(port, "/ws/not-ready", upgrade)["status"] != 200:
        yield "a gateway that is not ready keeps its users"


# What is known of a question that got no further than the balancer.
UNSAID = dict.fromkeys(("name", "path", "upgrade", "connection", "host", "x-forwarded-for"), "")


def asked(port, path, headers=()):
    """What the upstream says that it was asked; the first question waits until nginx listens."""
    deadline = time.monotonic() + 10
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path, headers=dict(headers))
            answer = connection.getresponse()
            said = answer.read()
            return (json.loads(said) if answer.status == 200 else UNSAID) | {"status": answer.status}
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        finally:
            connection.close()


@contextlib.contextmanager
def upstream(name):
    """Something that answers what it was asked, on a free port."""
    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            told = {key: self.headers[key] for key in ("Upgrade", "Connection", "Host", "X-Forwarded-For")}
            body = json.dumps({"name": name, "path": self.path} | {key.lower(): value for key, value in told.items()}).encode()
            self.send_response(503 if self.path == "/ws/not-ready" and not NOT_READY and not NOT_READY.append(name) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    NOT_READY.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    # A connection that nginx resets when it ends is no fault.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


# Who has already answered that it is not ready: the first that is asked is not, all others are.
NOT_READY = []

# Faults in the files that nginx and nats-server read: whose complaints, the file, what is written instead of what, and what has
# to be said of it.
FAULTS = (
    (complaints_of_nats, "nats.conf", "    sync_interval: always\n", "", "answers before it has written"),
    (complaints_of_nats, "nats.conf", ", nats://nats-3:6222", "", "has routes to nats-1, nats-2"),
    (complaints_of_nats, "nats.conf", "max_file_store: 2GB", "max_file_stores: 2GB", "nats-server says"),
    (complaints_of_nginx, "nginx.conf", "    least_conn;\n    server gateway-1:8000 resolve;\n", "    least_conn;\n",
     "gateway_senders leads to gateway-2"),
    (complaints_of_nginx, "nginx.conf", "hash $gateway_user consistent;", "", "a user's socket and stream go to different"),
    (complaints_of_nginx, "nginx.conf", "hash $gateway_user", "hash $host", "all users go to one gateway"),
    (complaints_of_nginx, "nginx.conf", "hash $gateway_user", "hash $request_uri", "a user's socket and stream go to different"),
    (complaints_of_nginx, "nginx.conf", "least_conn;", "hash $host;", "all sends go to one gateway"),
    (complaints_of_nginx, "nginx.conf", "http://gateway_receivers;", "http://gateway_receivers/x$is_args$args;", "the path becomes"),
    (complaints_of_nginx, "nginx.conf", "    proxy_set_header Upgrade $http_upgrade;\n", "", "an upgrade does not get through"),
    (complaints_of_nginx, "nginx.conf", "''      '';", "''      upgrade;", "what asks for no upgrade gets one"),
    (complaints_of_nginx, "nginx.conf", "Host $http_host", "Host $host", "the host becomes"),
    (complaints_of_nginx, "nginx.conf", "For $remote_addr", "For x", "the client's address becomes"),
    (complaints_of_nginx, "nginx.conf", " http_503;", ";", "a gateway that is not ready keeps its users"),
    (complaints_of_nginx, "nginx.conf", "proxy_buffering off", "proxy_bufferings off", "nginx says"),
)  # fmt: skip


def unnoticed():
    """The faults that nobody notices."""
    for complaints, name, was, becomes, wanted in FAULTS:
        text = (FILES / name).read_text()
        said = complaints(text.replace(was, becomes, 1)) if was in text else ["there is nothing to spoil"]
        if not any(wanted in one for one in said):
            yield f"nothing noticed a fault in {name} that should be told as: {wanted}; what was said: {said}"
