"""What has to hold through a proxy, with real processes: each function is given a proxy and says what is wrong."""

import re
import socket
import time

from stage import KEY, Failed, Recorder, stop, token
from wire import Closed, Refused, Stream, WebSocket, request, send

# How long something may take that should be there at once.
AT_ONCE_SECONDS = 3
# Beyond every time-out of a proxy by half: 75 s are 3 s here (stage.TIMES_FASTER).
IDLE_SECONDS = 4.5
# A path with a slash in the name of a user, which a proxy must not undo.
QUOTED = "/v1/users/a%2Fb%20c/notifications?limit=1"
MEBIBYTE = 1024 * 1024
# Each check has a user of its own, named as its proxy: what another one left in a mailbox would come first.


def forwarded(stage, proxy):
    """Host, address and path come to the gateway as the client has them; connections are upgraded only on request."""
    recorder = Recorder()
    _, port = proxy.start(stage, recorder.port)
    request(port, "GET", QUOTED, {"X-Forwarded-For": "203.0.113.7"})
    if QUOTED not in recorder.heads:
        yield f"the path {QUOTED} came as {', '.join(recorder.heads)}"
        return
    for name, wanted in (("x-forwarded-for", ["127.0.0.1"]), ("host", ["localhost"]), ("upgrade", []),
                         ("x-forwarded-proto", ["https"])):  # fmt: skip
        found = [value.partition(":")[0] if name == "host" else value for value in recorder.header(QUOTED, name)]
        if found != wanted:
            yield f"{name} is {found} instead of {wanted}"
    if recorder.header(QUOTED, "connection") not in ([], ["keep-alive"]):
        yield "a connection is not used again"
    try:
        WebSocket(port, "/ws/a%2Fb", "x", "X-Forwarded-For: 203.0.113.7\r\n").close()
    except Refused:
        pass
    for name, wanted in (("x-forwarded-for", ["127.0.0.1"]), ("upgrade", ["websocket"]), ("connection", ["upgrade"]),
                         ("sec-websocket-protocol", ["notify.v1, bearer.x"])):  # fmt: skip
        found = [value if name.startswith("sec") else value.lower() for value in recorder.header("/ws/a%2Fb", name)]
        if found != wanted:
            yield f"{name} of an upgrade is {found} instead of {wanted}"


def known(stage, proxy, gateway):
    """An audit line says who it was, whatever the client claims; nobody gets by without a credential, and browsers are told."""
    _, port = proxy.start(stage, gateway.port)
    user, claimed, source = proxy.name, "203.0.113.7", "127.0.0.9"
    path = f"/v1/topics/news/subscribers/{user}"
    headers = {"Authorization": f"Bearer {KEY}", "X-Forwarded-For": claimed}
    status, answer = request(port, "PUT", path, headers, source=source)
    if status not in (200, 204):
        yield f"a subscription is answered with {status}: {answer}"
    line = stage.line("gateway", '"message":"done"', f'"path":"{path}"')
    if f'"client":"{source}"' not in line:
        yield f"the audit line does not say that {source} did it: {line}"
    if (status := request(port, "PUT", path, source=source)[0]) != 401:
        yield f"without a key the answer is {status}"
    try:
        WebSocket(port, f"/ws/{user}", token("mallory")).until("welcome", AT_ONCE_SECONDS)
        yield "a stranger's token opens a socket"
    except Closed as closed:
        if closed.args[0] != 4003:
            yield f"a stranger's token is answered with {closed.args[0]}"


def bounded(stage, proxy, gateway):
    """A body that the gateway takes gets through, a larger one is told to be too large and not that something broke."""
    _, port = proxy.start(stage, gateway.port)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    for mebibytes, wanted in ((7, 202), (9, 413)):
        body = b"[" + b" " * (mebibytes * MEBIBYTE) + b"]"
        status, answer = request(port, "POST", "/v1/notifications/batch", headers, body)
        if status != wanted:
            yield f"a body of {mebibytes} MiB is answered with {status}: {answer[:500]}"


def unbuffered(stage, proxy):
    """An event is there at once, by HTTP/1.1 and HTTP/2, although the upstream says nothing about buffers."""
    recorder = Recorder()
    _, port = proxy.start(stage, recorder.port)
    for version in ("1.1", "2"):
        stream = Stream(port, f"/sse/{version}", "x", version)
        if not stream.until(b"data: now", AT_ONCE_SECONDS):
            yield f"an event by HTTP/{version} is held back: {stream.received!r}"
        stream.close()


def counted(stage, proxy):
    """Behind a balancer it is the client's address that limits count, and of an IPv6 address the network of one customer."""
    text = re.sub(r"^#(set_real_ip_from|real_ip_)(.*)$", r"\1\2", proxy.text, flags=re.MULTILINE)
    text = text.replace("set_real_ip_from 10.0.0.0/8", "set_real_ip_from 127.0.0.1")
    proxy.text = re.sub(r"(limit_conn notification_gateway_connections) \d+", r"\1 1", text)
    recorder = Recorder()
    _, port = proxy.start(stage, recorder.port)
    held = []
    for address, wanted in (("2001:db8:1:2::3", b"data: now"), ("2001:db8:1:2:4:5:6:7", b"503"), ("2001:db8:1:3::3", b"data: now"),
                            ("203.0.113.7", b"data: now"), ("203.0.113.8", b"data: now"), ("203.0.113.7", b"503")):  # fmt: skip
        held.append(Stream(port, f"/sse/{address}", "x", "1.1", f"X-Forwarded-For: {address}"))
        if not held[-1].until(wanted, AT_ONCE_SECONDS):
            yield f"of {address} something else was expected than {held[-1].received[:200]!r}"
        elif wanted != b"503" and (found := recorder.header(f"/sse/{address}", "x-forwarded-for")) != [address]:
            yield f"{address} is handed on as {found}"
    for stream in held:
        stream.close()


def delivered(stage, proxy, gateway):
    """A POST is accepted, and is pushed at once to a socket and to a stream."""
    _, port = proxy.start(stage, gateway.port)
    user = proxy.name
    try:
        listening = WebSocket(port, f"/ws/{user}", token(user))
    except Refused as refused:
        yield f"no upgrade: {refused}"
        return
    if b"sec-websocket-protocol: notify.v1\r\n" not in listening.head.lower() + b"\r\n":
        yield f"the subprotocol is not notify.v1 alone: {listening.head!r}"
    stream = Stream(port, f"/sse/{user}", token(user), "2")
    if not listening.until("welcome", AT_ONCE_SECONDS) or not stream.until(b"welcome", AT_ONCE_SECONDS):
        yield f"no welcome: {stream.received!r}"
    sent = time.monotonic()
    status, answer = send(port, KEY, user, "dinner?")
    if status != 202:
        yield f"a notification is answered with {status}: {answer}"
        return
    if not listening.until("notification", AT_ONCE_SECONDS):
        yield "no notification on the socket"
    if not stream.until(b"dinner?", AT_ONCE_SECONDS):
        yield f"no notification on the stream: {stream.received!r}"
    proxy.notes.append(f"a push to a socket and a stream took {1000 * (time.monotonic() - sent):.0f} ms")
    for path in ("/metrics", "/health/ready"):
        if (status := request(port, "GET", path)[0]) != 404:
            yield f"{path} is answered with {status}"
    listening.close()
    stream.close()


def idle(stage, proxy, gateway):
    """Sockets and streams on which nothing happens but heartbeats outlive every time-out."""
    _, port = proxy.start(stage, gateway.port)
    user = proxy.name
    streams = [Stream(port, f"/sse/{user}", token(user), version) for version in ("1.1", "2")]
    listening = WebSocket(port, f"/ws/{user}", token(user))
    try:
        listening.until("nothing", IDLE_SECONDS)
        status, answer = send(port, KEY, user, "still there?")
        if status != 202:
            yield f"a notification is answered with {status}: {answer}"
        if not listening.until("notification", AT_ONCE_SECONDS):
            yield "a socket is silent after a while"
    except (ConnectionError, OSError) as error:
        yield f"a socket ended: {error}"
    for stream, version in zip(streams, ("1.1", "2")):
        if not stream.until(b"still there?", AT_ONCE_SECONDS):
            yield f"a stream by HTTP/{version} ended: {stream.received[-200:]!r}"
        stream.close()
    listening.close()


def discreet(stage, proxy, gateway):
    """No credential is in what the proxy says, neither when all is well nor when the gateway is not there."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for upstream in (gateway.port, nobody.getsockname()[1]):
            process, port = proxy.start(stage, upstream)
            try:
                WebSocket(port, "/ws/bob", token("bob")).close()
            except Refused:
                pass
            send(port, KEY, "bob", "quiet")
            stop(process)
            said = stage.said(proxy.name)
            if "/ws/bob" not in said:
                raise Failed(f"{proxy.name} notes no requests:\n{said}")
            # The beginning of every token that is signed with this header, and the key.
            for secret in (token("bob")[:20], KEY):
                if secret in said:
                    line = next(line for line in said.splitlines() if secret in line)
                    yield f"a credential is in its log{'' if upstream == gateway.port else ' of errors'}: {line}"


# Which of them need a gateway.
WITHOUT_GATEWAY = (forwarded, unbuffered)
ONLY_NGINX = (counted,)
WITH_GATEWAY = (delivered, known, bounded, idle, discreet)

# Faults: the proxy, what is written instead of what (once), who has to notice, and with what words.
FAULTS = (
    ("nginx", "X-Forwarded-For $remote_addr", "X-Forwarded-For $proxy_add_x_forwarded_for", forwarded, "x-forwarded-for is"),
    ("nginx", "    proxy_set_header X-Forwarded-For $remote_addr;\n", "", known, "the audit line does not say"),
    ("nginx", "    proxy_set_header Host $host;\n", "", forwarded, "host is"),
    ("nginx", "location / {\n        proxy_pass http://notification_gateway",
     "location / {\n        proxy_pass http://notification_gateway/", forwarded, "the path"),
    ("nginx", "    ''      '';", "    ''      close;", forwarded, "is not used again"),
    ("nginx", "    proxy_set_header Upgrade $http_upgrade;\n", "", delivered, "no upgrade"),
    ("nginx", "    client_max_body_size 8m;\n", "", bounded, "7 MiB is answered with 413"),
    ("nginx", "        proxy_buffering off;\n", "", unbuffered, "is held back"),
    ("nginx", ".{8}$\" $notification_gateway_network", ".{8}$\" $binary_remote_addr", counted,
     "2001:db8:1:2:4:5:6:7 something else"),
    ("nginx", "#real_ip_header X-Forwarded-For;\n", "", counted, "203.0.113.7 something else"),
    ("nginx", "limit_conn notification_gateway_connections 2000;", "", counted, "something else"),
    ("nginx", "proxy_read_timeout 75s", "proxy_read_timeout 500ms", idle, "ended"),
    ("caddy", "reverse_proxy 127.0.0.1:8000 {", "reverse_proxy 127.0.0.1:8000 {\n\t\ttrusted_proxies 127.0.0.1", forwarded,
     "x-forwarded-for is"),
    ("caddy", "reverse_proxy 127.0.0.1:8000 {", "reverse_proxy 127.0.0.1:8000 {\n\t\theader_up X-Forwarded-For 203.0.113.7", known,
     "the audit line does not say"),
    ("caddy", "reverse_proxy 127.0.0.1:8000 {", "reverse_proxy 127.0.0.1:8000 {\n\t\theader_up -Sec-WebSocket-Protocol", known,
     "Refused"),
    ("caddy", "reverse_proxy 127.0.0.1:8000 {", "reverse_proxy 127.0.0.1:8000 {\n\t\theader_up Host x", forwarded, "host is"),
    ("caddy", "\treverse_proxy", "\trequest_body {\n\t\tmax_size 8MiB\n\t}\n\treverse_proxy", bounded, "9 MiB is answered with"),
    ("caddy", "idle 75s", "idle 75s\n\t\t\twrite 500ms", idle, "ended"),
    ("caddy", "request>headers>Sec-Websocket-Protocol", "request>headers>Cookie", discreet, "log of errors"),
    ("caddy", "request>headers>Sec-Websocket-Protocol", "request>headers>Cookie", discreet, "is in its log:"),
)  # fmt: skip
