"""What can be seen of the files without running what they are for. Each function is given the texts of all files, by name, and
says what is wrong."""

import configparser
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from stage import DEPLOY, ROOT, with_keys_in

UNIT, KERNEL = "systemd/notification-gateway.service", "systemd/90-notification-gateway.conf"
SETTINGS, NGINX, CADDY = "gateway.production.toml", "nginx/notification-gateway.conf", "caddy/Caddyfile"
KUBERNETES = "kubernetes/notification-gateway.yaml"
FILES = (UNIT, KERNEL, SETTINGS, NGINX, CADDY, KUBERNETES)
# The sockets that everything here is made for.
SOCKETS = 50_000
# What the gateway keeps of its descriptors, and how long it waits for a collector when it stops.
RESERVED_DESCRIPTORS, LAST_SPANS_SECONDS = 256, 2
# Tenths of the points by which systemd rates what a service may do; a service without any protection has 96.
WORST_EXPOSURE = 15
OPERATORS_PORT = 9464


def read():
    return {name: (DEPLOY / name).read_text() for name in FILES}


def default(key):
    """The default of a setting in the gateway's own example, in seconds if it is a time."""
    section, _, name = key.partition(".")
    example = (ROOT / "gateway/gateway.example.toml").read_text()
    value = re.search(rf'^\[{section}\](?:.|\n)*?^#: {name} = "?([^"\n]*)"?$', example, flags=re.MULTILINE)[1]
    seconds = re.fullmatch(r"(\d+)s", value)
    return int(seconds[1]) if seconds else value


def setting(text, key):
    """What gateway.production.toml says of a setting."""
    section, _, name = key.partition(".")
    found = re.search(rf"^\[{section}\][^\[]*?(?:\[[^\]]*\][^\[]*?)*?^{name} = (.*)$", text, flags=re.MULTILINE)
    return found[1] if found else ""


def without_comments(text):
    return re.sub(r"^\s*#.*$|\s#.*$", "", text, flags=re.MULTILINE)


def ran(*command):
    """Whether a program succeeded, and what it said."""
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=60)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def service(text):
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    return dict(parser["Service"])


def unit_is_understood(texts, _):
    if not shutil.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory() as directory:
        unit = Path(directory, Path(UNIT).name)
        # What it starts is not installed where the files are only looked at.
        unit.write_text(texts[UNIT].replace("ExecStart=/usr/local/bin/gateway", "ExecStart=/bin/true"))
        fine, said = ran("systemd-analyze", "verify", "--man=no", unit)
        # It speaks of every unit of the machine; ours is the one in question.
        said = "\n".join(line for line in said.splitlines() if unit.name in line)
        if not fine or said:
            yield f"systemd-analyze verify: {said}"
        fine, said = ran("systemd-analyze", "security", "--no-pager", "--offline=yes", f"--threshold={WORST_EXPOSURE}", unit)
        if not fine:
            yield f"systemd-analyze security: {said.splitlines()[-1] if said else 'failed'}"


def unit_fits_the_settings(texts, _):
    unit, settings = service(texts[UNIT]), texts[SETTINGS]
    stop = int(unit.get("TimeoutStopSec", "0s").rstrip("s"))
    if stop <= default("shutdown.timeout") + LAST_SPANS_SECONDS:
        yield "the unit kills the gateway before it has told everybody to leave"
    if (unit.get("Restart"), unit.get("RestartPreventExitStatus")) != ("on-failure", "78"):
        yield "the unit starts a gateway again whose configuration cannot be used, or does not after a crash"
    connections = int(setting(settings, "http.max_connections") or 0)
    if int(unit.get("LimitNOFILE", 0)) < connections + RESERVED_DESCRIPTORS:
        yield f"LimitNOFILE is too small for {connections} connections"
    sessions = int(setting(settings, "sessions.max_total") or 0)
    if sessions < SOCKETS or connections < sessions * 20 / 19:
        yield f"{sessions} sessions and {connections} connections do not leave room for senders"
    directory = unit.get("StateDirectory")
    if setting(settings, "log.store") != f'"disk:/var/lib/{directory}"':
        yield f"the log is not in the unit's directory {directory}"
    if "/etc/notification-gateway/token-key" not in setting(settings, "auth.token_key_files"):
        yield "the key of tokens has another name in the unit"
    handed_on = unit.get("LoadCredential"), unit.get("Environment", "").partition("=")[2]
    if handed_on != ("token-key:/etc/notification-gateway/token-key", "%d/token-key"):
        yield "the unit does not hand on the key of tokens"
    # What of systemd's lists would kill the gateway's own threads.
    for family in ("AF_INET", "AF_INET6"):
        if family not in unit.get("RestrictAddressFamilies", "").split():
            yield f"the unit forbids {family}"


def settings_are_safe(texts, gateway):
    settings = texts[SETTINGS]
    for key in ("http.allowed_hosts", "http.allowed_origins", "http.trusted_proxies", "auth.api_keys_file",
                "auth.token_key_files", "auth.audience", "auth.issuer"):  # fmt: skip
        if setting(settings, key) in ("", "[]", '""'):
            yield f"{SETTINGS} says nothing of {key}"
    for key in ("http.listen", "ops.listen"):
        if not setting(settings, key).startswith('"127.0.0.1:'):
            yield f"{key} is not on loopback"
    if gateway is None:
        return
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "gateway.toml")
        file.write_text(with_keys_in(directory, settings))
        fine, said = ran(gateway, "check-config", "--config", file)
        if not fine or said != "ok":
            yield f"gateway check-config: {said}"


def kernel_knows(texts, _):
    values = {}
    for line in without_comments(texts[KERNEL]).split("\n"):
        if not line.strip():
            continue
        name, _, value = (part.strip() for part in line.partition("="))
        optional = name.startswith("-")
        values[name.lstrip("-")] = [int(one) for one in value.split()]
        if not optional and not Path("/proc/sys", name.replace(".", "/")).exists():
            yield f"this kernel has no {name}"
    low, high = values["net.ipv4.ip_local_port_range"]
    if high - low + 1 < SOCKETS or high > 65_535:
        yield f"{low} to {high} are not enough ports for {SOCKETS} sockets through a proxy"
    if any(low <= port <= high for port in (8000, OPERATORS_PORT)):
        yield "a proxy's connection could take the port of a listener"
    if values["net.core.somaxconn"][0] < 4096:
        yield "the kernel's queue is shorter than the gateway's"
    if values["net.netfilter.nf_conntrack_max"][0] < 4 * SOCKETS:
        yield "too few tracked connections: two for each socket, and as many that were just closed"
    if values["net.ipv4.tcp_mem"] != sorted(values["net.ipv4.tcp_mem"]):
        yield "tcp_mem is not in order"


def proxies_wait_and_keep_out(texts, _):
    longest_silence = default("sessions.heartbeat") * 1.2
    for name in (NGINX, CADDY):
        if str(OPERATORS_PORT) in without_comments(texts[name]):
            yield f"{name} leads to the operators' listener"
    text = without_comments(texts[NGINX])
    sockets = re.search(r"location ~ \^/\(ws\|sse\)/ \{([^}]*)\}", text)[1]
    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        found = re.search(rf"{name} (\d+)s;", sockets)
        if not found or int(found[1]) < 2 * longest_silence:
            yield f"{NGINX}: {name} is shorter than two heartbeats"
    for name, keeps in ((NGINX, r"keepalive_timeout (\d+)s;"), (CADDY, r"keepalive (\d+)s")):
        found = re.search(keeps, without_comments(texts[name]))
        if not found or int(found[1]) >= default("http.keep_alive"):
            yield f"{name}: the gateway closes a connection first, perhaps under a request"
    listens = re.findall(r"listen [^;]*443[^;]*;", text)
    if any("backlog=4096" not in one for one in listens):
        yield f"{NGINX}: a short queue for those who come back at once"


def caddy_understands(texts, _):
    if not shutil.which("caddy"):
        return
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "Caddyfile")
        file.write_text(texts[CADDY])
        done = subprocess.run(["caddy", "validate", "--adapter", "caddyfile", "--config", file],
                              capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": directory})  # fmt: skip
        if done.returncode != 0:
            yield f"caddy validate: {done.stderr.splitlines()[-1]}"
        done = subprocess.run(["caddy", "fmt", file], capture_output=True, text=True)
        if done.stdout != texts[CADDY]:
            yield f"{CADDY} is not formatted: caddy fmt --overwrite"


CHECKS = (
    unit_is_understood, unit_fits_the_settings, settings_are_safe, kernel_knows, proxies_wait_and_keep_out, caddy_understands,
)  # fmt: skip

# Faults: the file, what is written instead of what, and the words that have to be said of it. Those of the second list need
# the program that is named.
FAULTS = (
    (UNIT, "TimeoutStopSec=20s", "TimeoutStopSec=12s", "kills the gateway before"),
    (UNIT, "RestartPreventExitStatus=78", "RestartPreventExitStatus=1", "starts a gateway again"),
    (UNIT, "Restart=on-failure", "Restart=no", "does not after a crash"),
    (UNIT, "LimitNOFILE=65536", "LimitNOFILE=60000", "too small for 60000"),
    (UNIT, "StateDirectory=notification-gateway", "StateDirectory=gateway", "not in the unit's directory"),
    (UNIT, "LoadCredential=token-key:", "LoadCredential=key:", "does not hand on"),
    (UNIT, "AF_INET AF_INET6", "AF_INET", "forbids AF_INET6"),
    (SETTINGS, "max_total = 50000", "max_total = 60000", "do not leave room"),
    (SETTINGS, 'allowed_hosts = ["push.example"]', "allowed_hosts = []", "nothing of http.allowed_hosts"),
    (SETTINGS, 'listen = "127.0.0.1:9464"', 'listen = "0.0.0.0:9464"', "ops.listen is not on loopback"),
    (SETTINGS, "\napi_keys_file", "\n#api_keys_file", "nothing of auth.api_keys_file"),
    (KERNEL, "10240 65535", "32768 60999", "not enough ports"),
    (KERNEL, "10240 65535", "1024 65535", "take the port of a listener"),
    (KERNEL, "somaxconn = 4096", "somaxconn = 128", "the kernel's queue is shorter"),
    (KERNEL, "nf_conntrack_max = 262144", "nf_conntrack_max = 65536", "too few tracked"),
    (KERNEL, "net.ipv4.tcp_syncookies", "net.ipv4.tcp_cookies", "this kernel has no net.ipv4.tcp_cookies"),
    (KERNEL, "262144 393216 524288", "262144 524288 393216", "not in order"),
    (NGINX, "proxy_read_timeout 75s", "proxy_read_timeout 30s", "shorter than two heartbeats"),
    (NGINX, "server 127.0.0.1:8000;", "server 127.0.0.1:9464;", "operators' listener"),
    (CADDY, "reverse_proxy 127.0.0.1:8000", "reverse_proxy 127.0.0.1:9464", "operators' listener"),
    (NGINX, "    keepalive_timeout 60s;", "    keepalive_timeout 90s;", "closes a connection first"),
    (CADDY, "keepalive 60s", "keepalive 120s", "closes a connection first"),
    (NGINX, " backlog=4096", "", "a short queue"),
)  # fmt: skip
FAULTS_FOR = {
    "systemd-analyze": (
        (UNIT, "ProtectHome=yes", "ProtectHome=perhaps", "systemd-analyze verify"),
        (UNIT, "RestartSec=1s", "RestartSeconds=1s", "systemd-analyze verify"),
        (UNIT, "CapabilityBoundingSet=\n", "", "systemd-analyze security"),
    ),
    "caddy": (
        (CADDY, "dial_timeout 5s", "dial_timout 5s", "caddy validate"),
        (CADDY, "\treverse_proxy", "  reverse_proxy", "is not formatted"),
    ),
    "gateway": (
        (SETTINGS, "max_connections = 60000", "max_conections = 60000", "gateway check-config"),
        (SETTINGS, 'disk_reserve = "2GiB"', 'disk_reserve = "two"', "gateway check-config"),
    ),
}
