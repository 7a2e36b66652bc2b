"""What happens to the gateways beside the load tests, so that every panel has something to show: senders who are wrong,
receivers who are away, come back, say nothing, or break the rules."""

import base64
import http.client
import json
import os
import socket
import struct
import threading

from stage import Failed

CLOSE, PING, PONG, TEXT = 8, 9, 10, 1


def call(gateway, method, path, body=None, expected=202, **headers):
    """A request and its answer, which has to be the one that the scene is about."""
    connection = http.client.HTTPConnection(gateway.public, timeout=10)
    try:
        text = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if text is not None else {}
        headers = shown(gateway) | headers
        connection.request(method, path, text, kind | {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != expected:
            raise Failed(f"{method} {path}: {answer.status} instead of {expected}: {said[:300]!r}")
        return json.loads(said) if said else None
    finally:
        connection.close()


def shown(gateway):
    """The header with the gateway's credential, if it wants one."""
    return {"Authorization": f"Bearer {gateway.credential}"} if gateway.credential else {}


def send(gateway, expected=202, key=None, **notification):
    """Sends a notification; `key` is its Idempotency-Key."""
    headers = {"Idempotency_Key": key} if key else {}
    return call(gateway, "POST", "/v1/notifications", {"body": "x" * 100} | notification, expected, **headers)


def senders_are_wrong(gateway):
    """Each way in which a send is refused for what it is, and one that comes twice."""
    call(gateway, "POST", "/v1/notifications", b"{", 400)
    send(gateway, 413, to=["ann"], body="x" * 40_000)
    send(gateway, 202, key="once", to=["ann"])
    send(gateway, 202, key="once", to=["ann"])
    send(gateway, 422, key="once", to=["ann"], body="another")


def many_are_addressed(gateway):
    """A topic, a list, everybody; with every priority."""
    for user in ("dave", "ann", "ben"):
        call(gateway, "PUT", f"/v1/topics/news/subscribers/{user}", expected=200)
    send(gateway, topic="news", priority="high")
    send(gateway, topic="*")
    send(gateway, to=["dave", "ann", "ben"], priority="low")


def receivers_are_away(gateway):
    """A mailbox that overflows, and notifications that expire, are replaced or taken back; then their user comes for them,
    once behind the first and once with a position of another log."""
    first = send(gateway, to=["carol"])
    # Not for carol: what makes room in a full mailbox does not live to expire.
    send(gateway, to=["fay"], ttl_seconds=1)
    for _ in range(2):
        send(gateway, to=["carol"], collapse_key="weather")
    taken_back = send(gateway, to=["carol"])
    call(gateway, "DELETE", f"/v1/notifications/{taken_back['id']}", expected=200)
    for _ in range(200):
        send(gateway, to=["carol"])
    listen_to_events(gateway, f"/sse/carol?after={first['position']}", "notification")
    last = listen_to_events(gateway, "/sse/carol?after=0000000000000-1", "notification")
    call(gateway, "POST", "/v1/users/carol/acks", {"position": last["position"]})


def mailboxes_refuse(gateway):
    """Under the policy `reject` and with a bound of ten the eleventh is refused."""
    for number in range(13):
        send(gateway, 202 if number < 10 else 507, to=["erin"])


def nothing_is_said(gateway):
    """A connection without a request, until the gateway has had enough."""
    host, port = gateway.public.split(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        while connection.recv(4096):
            pass


def strangers_come(gateway):
    """A page from elsewhere, and a socket that says what it must not."""
    call(gateway, "GET", "/ws/ann", expected=403, Origin="https://elsewhere.example", **HANDSHAKE)
    receiver = Receiver(gateway, "ann")
    receiver.write(TEXT, b"no JSON")
    receiver.read_until(CLOSE)


def events(gateway, path):
    """Opens an event stream: its connection, and its lines."""
    connection = http.client.HTTPConnection(gateway.public, timeout=10)
    connection.request("GET", path, headers=shown(gateway))
    answer = connection.getresponse()
    if answer.status != 200:
        raise Failed(f"GET {path}: {answer.status}")
    return connection, answer


def listen_to_events(gateway, path, wanted):
    """Opens an event stream, and gives the data of the first event of this kind."""
    connection, answer = events(gateway, path)
    try:
        kind = None
        for line in answer:
            name, _, value = line.decode().strip().partition(": ")
            kind = value if name == "event" else kind
            if name == "data" and kind == wanted:
                return json.loads(value)
        raise Failed(f"GET {path}: the stream ended without {wanted}")
    finally:
        connection.close()


def stay_on_events(gateway, path):
    """Opens an event stream, and reads it in the background until the gateway or the test ends."""
    connection, answer = events(gateway, path)
    in_background(lambda: (list(answer), connection.close()))


HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
             "Sec_WebSocket_Key": base64.b64encode(os.urandom(16)).decode()}


class Receiver:
    """A WebSocket that does what every library does by itself: it answers pings (RFC 6455), and so acks."""

    def __init__(self, gateway, user, credential=None):
        host, port = gateway.public.split(":")
        self.connection = socket.create_connection((host, int(port)), timeout=15)
        credentials = {"Authorization": f"Bearer {credential}"} if credential else shown(gateway)
        headers = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in (HANDSHAKE | credentials).items())
        self.connection.sendall(f"GET /ws/{user} HTTP/1.1\r\nHost: {gateway.public}\r\n{headers}\r\n".encode())
        self.input = self.connection.makefile("rb")
        status = self.input.readline()
        if b"101" not in status:
            raise Failed(f"no WebSocket: {status!r}")
        while self.input.readline() != b"\r\n":
            pass

    def write(self, kind, payload):
        """A frame. A client masks; a mask of zeros changes nothing."""
        self.connection.sendall(struct.pack("!BB", 0x80 | kind, 0x80 | len(payload)) + bytes(4) + payload)

    def read(self):
        """The next frame: its kind and its payload; a ping is answered."""
        start, length = self.input.read(2) or (0x80 | CLOSE, 0)
        if length >= 126:
            length, = struct.unpack("!H" if length == 126 else "!Q", self.input.read(2 if length == 126 else 8))
        payload = self.input.read(length)
        if start & 0x0F == PING:
            self.write(PONG, payload)
        return start & 0x0F, payload

    def read_until(self, wanted):
        """Reads on until a frame of this kind, or the end, has come."""
        while True:
            kind, _ = self.read()
            if kind in (wanted, CLOSE):
                return kind

    def stay(self):
        """Reads in the background until the gateway or the test ends."""
        in_background(lambda: self.read_until(CLOSE))
        return self


def in_background(reads):
    """Lets something read until the gateway or the test ends."""
    def read_on():
        try:
            reads()
        except (OSError, http.client.HTTPException):
            # The gateway was stopped at the end of the test.
            pass
    threading.Thread(target=read_on, daemon=True).start()
