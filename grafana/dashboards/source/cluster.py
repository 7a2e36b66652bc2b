"""Two gateways on one NATS JetStream stream: what happens to them, so little that every number is known beforehand.

Nothing here is asked of a panel: what panels have to show then stands in truths.py.
"""

import os
import signal
import time

import scenes
from questions import Prometheus
from scenes import HANDSHAKE, Receiver, call, listen_to_events, send
from stage import Failed, Gateway, fetched, free_address, replace, until

SETTINGS = {
    "GATEWAY_NATS_REPLICAS": "1", "GATEWAY_MAILBOX_MAX_NOTIFICATIONS": "10", "GATEWAY_HTTP_MAX_HEADER": "4KiB",
    "GATEWAY_HTTP_FIRST_REQUEST_TIMEOUT": "1s", "GATEWAY_SESSIONS_HEARTBEAT": "2s", "OTEL_BSP_SCHEDULE_DELAY": "500",
}
# How many sessions there is room for on each.
ROOM = {"one": "2", "two": "4"}
# Often: rate() is right to one scrape of the time that it is about, which is short here.
SCRAPE_SECONDS = 0.5


class Cluster:
    """The gateways `one` and `two`, and a Prometheus that scrapes these two alone, as where they are in production."""

    def __init__(self, stage):
        log = f"{stage.nats()}/notify"
        credential, block = stage.new_key("everything", "send,read,admin")
        self.keys_file = stage.directory / "keys.toml"
        self.keys_file.write_text(block)
        # Nobody listens there: spans are dropped.
        store = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{free_address()}"}
        self.one, self.two = (self.started(stage, name, store, log, credential) for name in ("one", "two"))
        address = stage.prometheus([self.one, self.two], free_address(), every=f"{SCRAPE_SECONDS * 1000:.0f}ms")
        self.prometheus = Prometheus(address, time.time(), 0)
        until("both gateways are scraped", lambda: self.count("gateway_nodes == 2") == 2, 20)
        # Since here every counter was seen at 0.
        self.began = time.time() - 2 * SCRAPE_SECONDS

    def started(self, stage, name, store, log, credential):
        own = {"GATEWAY_SESSIONS_MAX_TOTAL": ROOM[name], "GATEWAY_NATS_COPY_DIRECTORY": str(stage.directory / name),
               "GATEWAY_AUTH_API_KEYS_FILE": str(self.keys_file)}
        gateway = stage.gateway(name, SETTINGS | store | own, log)
        return Gateway(gateway.process, gateway.public, gateway.operators, credential)

    def count(self, query):
        """How many series a query has now."""
        return len(self.prometheus.ask("query", query=query)["result"])

    def is_settled(self):
        """Waits until both were scraped, and all rules evaluated, after what both look at once a second was looked at."""
        looked = time.time() + 2
        until("what is looked at was scraped", lambda: self.scraped("min") > looked + 2, 20)

    def moment(self):
        """When a gateway was scraped last, once Prometheus has all that it will ever have of the time before."""
        latest = self.scraped("max")
        until("both were scraped again", lambda: self.scraped("min") > latest, 20)
        return latest

    def scraped(self, which):
        """When the gateways were scraped last, or tried to be."""
        answer = self.prometheus.ask("query", query=f'{which}(timestamp(up{{job="gateway"}}))')
        return float(answer["result"][0]["value"][1])

    def everything_happens(self):
        """Each line of this is counted in truths.py."""
        one, two = self.one, self.two
        self.somebody_comes_late()
        everybody = ((one, "ann"), (one, "dave"), (two, "ben"), (two, "dave"), (two, "zoe"))
        # Kept, or their sockets would be closed once nothing is read from them any more.
        self.receivers = [Receiver(gateway, user).stay() for gateway, user in everybody]
        scenes.stay_on_events(two, "/sse/eve")
        # Gateways tell each other ten times a second who is online.
        known = 'gateway_remembered{kind="online_elsewhere"}'
        until("both know whom the other has", lambda: self.count(f"{known} == 4") == self.count(f"{known} == 2") == 1, 20)
        for gateway in (one, two):
            call(gateway, "GET", "/sse/carol", expected=503)
        for gateway, topic, user in ((one, "news", "ann"), (one, "news", "ben"), (one, "news", "dave"), (two, "weather", "eve")):
            call(gateway, "PUT", f"/v1/topics/{topic}/subscribers/{user}", expected=200)
        self.somebody_is_there()
        self.somebody_is_away()
        self.senders_are_wrong()
        for gateway in (one, two):
            scenes.nothing_is_said(gateway)
        self.one_does_not_answer()
        self.keys_are_spoilt()
        until("all that was pushed is acked", lambda: self.count('gateway_ledger_final_total{outcome="acked"} == 10') == 2, 20)
        until("all that was short-lived is over", lambda: self.count("gateway_mailbox_expired_total == 2") == 2, 20)
        self.is_settled()

    def somebody_comes_late(self):
        """What waited on one gateway is read from the other, behind a position of the first, and behind one of another log."""
        first = send(self.one, to=["kim"])
        send(self.two, to=["kim"])
        listen_to_events(self.two, f"/sse/kim?after={first['position']}", "notification")
        for gateway in (self.one, self.two):
            listen_to_events(gateway, "/sse/kim?after=0000000000000-1", "notification")
        until("who left is gone", lambda: self.count("sum by (instance) (gateway_sessions) == 0") == 2, 20)

    def somebody_is_there(self):
        """Pushes across gateways and on the same one: to one user, to one on both, to a topic, to everybody."""
        one, two = self.one, self.two
        for gateway, user in ((one, "ben"), (one, "ben"), (one, "ben"), (two, "ann"), (two, "ann")):
            send(gateway, to=[user])
        send(one, to=["dave"], priority="high")
        send(two, topic="news")
        send(one, topic="*")
        read = send(one, to=["eve"])
        written = 'sum(gateway_push_latency_seconds_count{stage="written"}) == 18'
        until("all is written", lambda: self.count(written) == 1, 20)
        # Her session is on the other one.
        call(one, "POST", "/v1/users/eve/acks", {"position": read["position"]})

    def somebody_is_away(self):
        """What waits, is replaced, taken back, pushed out or over; half of it on each gateway."""
        one, two = self.one, self.two
        for gateway in (one, two):
            send(gateway, to=["fay"], ttl_seconds=1)
            send(gateway, to=["carol"], collapse_key="weather")
        for gateway in (one, one, one, one, two, two, two):
            send(gateway, to=["carol"])
        taken_back = send(one, to=["carol"])
        call(two, "DELETE", f"/v1/notifications/{taken_back['id']}", expected=200)
        for gateway in (one, two) * 6:
            send(gateway, to=["gus"])

    def senders_are_wrong(self):
        """A key that is used again on the other gateway, what is no notification, who is nobody, a page from elsewhere."""
        one, two = self.one, self.two
        send(one, key="once", to=["carol"])
        send(two, key="once", to=["carol"])
        send(two, 422, key="once", to=["carol"], body="another")
        send(two, 413, to=["carol"], body="x" * 40_000)
        for gateway in (one, two):
            call(gateway, "POST", "/v1/notifications", b"{", 400)
            call(gateway, "GET", "/docs", expected=431, X_Long="x" * 8_000)
        for gateway in (one, two, two):
            call(gateway, "POST", "/v1/notifications", {"to": ["ann"], "body": "hello"}, 401, Authorization="Bearer nonsense")
        call(one, "GET", "/ws/ann", expected=403, Origin="https://elsewhere.example", **HANDSHAKE)

    def one_does_not_answer(self):
        """A question that the other gateway is too late for."""
        self.two.process.send_signal(signal.SIGSTOP)
        # Until it stands still.
        os.waitpid(self.two.process.pid, os.WUNTRACED)
        try:
            call(self.one, "GET", "/v1/users/ben", expected=200)
        finally:
            self.two.process.send_signal(signal.SIGCONT)

    def keys_are_spoilt(self):
        """A file of keys that neither gateway can read again."""
        replace(self.keys_file, "[[key]")
        until("both could not read it", lambda: self.count('gateway_credentials_stale{source="api_keys"} == 1') == 2, 20)

    def one_wants_to_stop(self):
        """Its three sockets do not leave; its event stream ends."""
        self.two.process.send_signal(signal.SIGTERM)
        until("the stop is seen to wait", lambda: self.count("gateway_drain_remaining_sessions == 3") == 1, 20)

    def one_is_gone(self):
        """It is killed, and the other one notices."""
        self.two.process.kill()
        until("the other is alone", lambda: self.count("gateway_nodes == 1") == 1, 20)
        self.is_settled()

    def exported(self):
        """What both gateways say themselves."""
        found = [fetched(f"http://{gateway.operators}/metrics") for gateway in (self.one, self.two)]
        if not all(found):
            raise Failed("a gateway does not say how it is")
        return found
