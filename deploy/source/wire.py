"""HTTP and WebSocket over TLS by hand: what a browser and a back end do, without a library that would forgive anything."""

import base64
import functools
import http.client
import json
import os
import socket
import ssl
import struct
import subprocess
import time

SECONDS = 10


@functools.cache
def tls():
    """Trusts everybody: the certificates are made for the check."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def request(port, method, path, headers=None, body=None, source="127.0.0.1"):
    """The status and the text of an answer; `source` is the client's address."""
    connection = http.client.HTTPSConnection("localhost", port, timeout=SECONDS, context=tls())
    connection._create_connection = lambda *_, **__: socket.create_connection(
        ("127.0.0.1", port), timeout=SECONDS, source_address=(source, 0))  # fmt: skip
    try:
        connection.request(method, path, body=body, headers={"Host": "localhost"} | (headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def send(port, key, user, text):
    """Sends a notification; the status and the answer."""
    body = json.dumps({"to": [user], "body": text})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    status, answer = request(port, "POST", "/v1/notifications", headers, body)
    return status, answer


class Refused(ConnectionError):
    """The upgrade was not agreed to."""


class Closed(ConnectionError):
    """The other side closed the socket; its argument is the code."""


class WebSocket:
    """A client as browsers are: the credential is in the subprotocol."""

    def __init__(self, port, path, credential, more=""):
        self.stream = tls().wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=SECONDS),
                                        server_hostname="localhost")  # fmt: skip
        nonce = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n"
            f"Sec-WebSocket-Protocol: notify.v1, bearer.{credential}\r\n{more}\r\n".encode())
        self.received = b""
        while b"\r\n\r\n" not in self.received:
            self.read()
        self.head, _, self.received = self.received.partition(b"\r\n\r\n")
        if not self.head.startswith(b"HTTP/1.1 101"):
            raise Refused(self.head.decode(errors="replace"))

    def read(self):
        more = self.stream.recv(65536)
        if not more:
            raise ConnectionError("the connection ended")
        self.received += more

    def frame(self):
        """The next frame's kind and payload; servers do not mask."""
        while True:
            if len(self.received) >= 2:
                length, start = self.received[1] & 127, 2
                if length == 126 and len(self.received) >= 4:
                    length, start = struct.unpack(">H", self.received[2:4])[0], 4
                if length < 126 or start == 4:
                    if len(self.received) >= start + length:
                        kind, payload = self.received[0] & 15, self.received[start : start + length]
                        self.received = self.received[start + length :]
                        return kind, payload
            self.read()

    def answer(self, kind, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.stream.sendall(bytes([128 | kind, 128 | len(payload)]) + mask + masked)

    def until(self, wanted, seconds):
        """The first JSON frame of a type within some seconds; pings are answered, as browsers do. None when there was none."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.stream.settimeout(left)
            try:
                kind, payload = self.frame()
            except TimeoutError:
                return None
            if kind == 9:
                self.answer(10, payload)
            elif kind == 8:
                raise Closed(struct.unpack(">H", payload[:2])[0])
            elif json.loads(payload)["type"] == wanted:
                return json.loads(payload)
        return None

    def close(self):
        self.stream.close()


class Stream:
    """A reader of server-sent events, by curl: HTTP/1.1 or, as browsers do where it is offered, HTTP/2."""

    def __init__(self, port, path, credential, version, more="Accept-Language: en"):
        self.process = subprocess.Popen(
            ["curl", "--silent", "--show-error", "--insecure", "--no-buffer", f"--http{version}", "--include",
             "--resolve", f"localhost:{port}:127.0.0.1", "--header", f"Authorization: Bearer {credential}",
             "--header", "Accept: text/event-stream", "--header", more, f"https://localhost:{port}{path}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        os.set_blocking(self.process.stdout.fileno(), False)
        self.received = b""

    def until(self, wanted, seconds):
        """Whether the stream has given these bytes within some seconds."""
        deadline = time.monotonic() + seconds
        while wanted not in self.received and time.monotonic() < deadline:
            more = self.process.stdout.read()
            if more == b"":
                break
            self.received += more or b""
            if not more:
                time.sleep(0.01)
        return wanted in self.received

    def close(self):
        self.process.kill()
        self.process.wait()
