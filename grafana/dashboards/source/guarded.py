"""A gateway with keys and small limits, and what it has to turn away: credentials that do not do, more than is allowed, a
file of keys that cannot be read; and its stop, with a receiver who does not leave."""

import http.client
import re
import secrets
import signal

import scenes
from scenes import HANDSHAKE, PING, TEXT, Receiver, call
from stage import Failed, fetched, replace, until

# Small bounds, so that a handful is too much.
SETTINGS = {
    "GATEWAY_SESSIONS_MAX_TOTAL": "1", "GATEWAY_LIMITS_INBOUND_FRAMES": "1/s burst 5",
    "GATEWAY_LIMITS_SENDS_PER_USER": "1/s burst 2", "GATEWAY_HTTP_MAX_HEADER": "4KiB",
}
# What the file of keys lets the key send.
SENDS = 'sends = "1/s burst 3"\n'
# What has to be counted by then; reasons that want a token's clock or issuer to be wrong are left out.
REASONS = {"missing", "malformed", "in_url", "unknown_key", "signature", "other_user", "scope"}
LIMITS = {"sends_per_key", "sends_per_user", "sessions_per_node", "inbound_frames", "header_size"}


class Guarded:
    """A gateway with two API keys and a secret for tokens."""

    def __init__(self, stage):
        self.stage = stage
        self.keys_file, self.secret = stage.directory / "keys.toml", stage.directory / "secret"
        self.secret.write_text(secrets.token_hex(32))
        self.secret.chmod(0o600)
        self.key, self.block = stage.new_key("sender", "send,read,admin")
        self.reader, reader_block = stage.new_key("reader", "read")
        self.block += SENDS + reader_block
        self.keys_file.write_text(self.block)
        files = {"GATEWAY_AUTH_API_KEYS_FILE": str(self.keys_file), "GATEWAY_AUTH_TOKEN_KEY_FILES": str(self.secret)}
        self.gateway = stage.gateway("guarded", SETTINGS | files, "memory")

    def token(self, user, *options, key_file=None):
        """A token of this user."""
        return self.stage.said_by("token", "--user", user, "--key-file", str(key_file or self.secret), *options).strip()

    def send(self, credential, expected, **headers):
        """A notification with this credential; None: with none."""
        shown = {"Authorization": f"Bearer {credential}"} if credential else {}
        call(self.gateway, "POST", "/v1/notifications", {"to": ["gus"], "body": "hello"}, expected, **shown, **headers)

    def strangers_are_refused(self):
        """Each reason that needs no clock: nothing shown, nonsense, keys and signatures of others, what is not allowed."""
        other = self.stage.directory / "another"
        other.write_text(secrets.token_hex(32))
        other.chmod(0o600)
        self.send(None, 401)
        self.send("nonsense", 401)
        self.send(f"gwk_00000000_{'A' * 43}", 401)
        self.send(self.token("gus", "--scope", "send", key_file=other), 401)
        call(self.gateway, "POST", f"/v1/notifications?token={self.key}", {"to": ["gus"], "body": "hello"}, 401)
        self.send(self.reader, 403)
        self.send(self.token("gus"), 403)
        hers = {"Authorization": f"Bearer {self.token('zoe')}"}
        call(self.gateway, "GET", "/v1/users/gus/notifications", expected=403, **hers)
        call(self.gateway, "GET", "/ws/gus", expected=403, **hers, **HANDSHAKE)
        # Nobody who shows a wrong credential, but a page that may not.
        self.send(self.key, 403, Origin="https://elsewhere.example")

    def too_much_is_refused(self):
        """More notifications, headers, sessions and frames than are allowed. Gives the receiver who holds the only place."""
        token = self.token("gus", "--scope", "send")
        for credential, allowed in ((self.key, 3), (token, 2)):
            statuses = [self.status_of_a_send(credential) for _ in range(allowed + 3)]
            if statuses[0] != 202 or 429 not in statuses:
                raise Failed(f"{allowed} sends are allowed, and the answers are {statuses}")
        call(self.gateway, "GET", "/docs", expected=431, X_Long="x" * 8_000)
        talking = Receiver(self.gateway, "gus", token)
        # Behind its welcome a session has its place.
        talking.read_until(TEXT)
        call(self.gateway, "GET", "/sse/gus", expected=503, Authorization=f"Bearer {token}")
        for _ in range(10):
            talking.write(PING, b"")
        talking.read_until(scenes.CLOSE)
        talking.connection.close()

    def status_of_a_send(self, credential):
        connection = http.client.HTTPConnection(self.gateway.public, timeout=10)
        try:
            connection.request("POST", "/v1/notifications", b'{"to":["gus"],"body":"hello"}',
                               {"Content-Type": "application/json", "Authorization": f"Bearer {credential}"})
            return connection.getresponse().status
        finally:
            connection.close()

    def all_was_counted(self):
        """Each reason and limit that the scenes are about, and each answer, has its count."""
        text = fetched(f"http://{self.gateway.operators}/metrics")
        for metric, label, wanted in (("auth_refused", "reason", REASONS), ("limited", "limit", LIMITS),
                                      ("notifications", "result", {"unauthorized", "rate_limited"}),
                                      ("sessions_opened", "result", {"unauthorized", "overloaded"})):
            counted = set(re.findall(rf'^gateway_{metric}_total{{.*\b{label}="(\w+)".*}} [1-9]', text, re.MULTILINE))
            if not wanted <= counted:
                raise Failed(f"gateway_{metric}_total: not counted: {', '.join(sorted(wanted - counted))}")

    def keys_are_spoilt(self, prometheus):
        """A file of keys that cannot be read, until that was seen; then it is put right, with other keys."""
        replace(self.keys_file, "[[key]")
        until("keys that cannot be read are seen",
              lambda: prometheus.ask("query", query='gateway_credentials_stale{source="api_keys"} == 1')["result"], 20)
        self.send(self.reader, 403)
        self.key, block = self.stage.new_key("another", "send")
        replace(self.keys_file, block)
        read = ('sum by (instance) (gateway_credentials_stale) == 0 '
                'and on (instance) gateway_credential_reloads_total{source="api_keys",result="changed"} == 1')
        until("the keys that were put right are seen", lambda: prometheus.ask("query", query=read)["result"], 20)
        self.send(self.reader, 401)
        self.send(self.key, 202)

    def stops_with_somebody_left(self, prometheus):
        """A stop, with a receiver who neither reads nor closes until it was seen that the gateway waits."""
        staying = Receiver(self.gateway, "gus", self.token("gus"))
        self.gateway.process.send_signal(signal.SIGTERM)
        until("the stop is seen to wait",
              lambda: prometheus.ask("query", query="gateway_drain_remaining_sessions > 0")["result"], 20)
        staying.connection.close()
        if self.gateway.process.wait(20):
            raise Failed(f"a stop ended with {self.gateway.process.returncode}: {self.stage.said('guarded')}")
