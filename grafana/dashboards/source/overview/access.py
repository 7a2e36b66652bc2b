"""Who and what is turned away, whether credentials are up to date, and how a stop goes."""

from page import Section
from panels import Query, color, lines, override, says, shades, steps
from queries import rate, same, series


def section():
    """Refusals by reason and by limit, the two numbers that alerts stand on, then the state of it all."""
    return Section("Access and limits", [
        (9, [credentials(), limits()]),
        (8, [access(), room()]),
        (9, [readings(), ready(), leaving(), panics()]),
        (8, [remembered()]),
    ])


def credentials():
    return lines(
        "Refused for credentials",
        says("Requests and sessions that were refused because of their credential, a second, by why; none in open mode.",
             "`unknown_key`, `unknown_signer`, `signature`: guesses, or a key that was taken from somebody who still uses it; "
             "`expired` alone is ordinary; `unverifiable`: the provider of keys does not answer, or strangers invent names of keys.",
             "See whether *Accepted* or *Open* fell with it; the log lines name addresses.",
             "GatewayAccessRefused", "GatewayWrongCredentials"),
        # As with codes of sessions: reasons that did not occur would only fill the legend.
        [Query(f"{rate('gateway_auth_refused_total', by='reason')} > 0", "{{reason}}")], "ops", width=12, stacked=True,
        empty="nobody refused",
        overrides=[shades("/^(malformed|unknown_|signature)/", "red"), color("unverifiable", "dark-red"), shades("/^(scope|other_user|in_url)$/", "orange"),
                   shades("/^(audience|issuer|not_yet_valid)$/", "purple"), color("missing", "yellow"), color("expired", "blue")])


def limits():
    return lines(
        "Refused by limits",
        says("What limits refused, closed or delayed, a second, by limit: notifications, requests, connections, sessions.",
             "`memory`, `sessions_per_node`, `session_opens` say that the node is full, the others that one key, user, address "
             "or connection wants too much.",
             "For one that may have more raise it; if all clients seem to be one address, `http.trusted_proxies` does not name "
             "the proxy. `keep_alive` is ordinary.",
             "GatewayLimiting", "GatewaySendersAtFault"),
        [Query(f"{rate('gateway_limited_total', by='limit')} > 0", "{{limit}}")], "ops", width=12, empty="nothing refused",
        overrides=[shades("/^(memory|sessions_per_node|session_opens)$/", "red"), shades("/^sends_/", "orange"),
                   shades("/^(connects|connections)_/", "purple"), shades("/^(header|body|write|inbound)_/", "yellow"),
                   color("keep_alive", "blue")])


def access():
    return lines(
        "Access refused, over five minutes",
        says("The same over five minutes, of the worst gateway, with pages of origins that may not listen (`origin`) and "
             "requests by a name or from a page that is not allowed (`host_or_origin`).",
             "From 0.1 a second on, but for `expired`, an alert comes after ten minutes.",
             "The runbook says for each reason what it is; first see what was deployed when it began.",
             "GatewayAccessRefused"),
        [Query(f"max by (reason) ({series('gateway:access_refused:rate5m')}) > 0", "{{reason}}")], "ops", width=12,
        thresholds=steps(("orange", 0.1)), soft_maximum=0.12, empty="nobody refused")


def room():
    return lines(
        "Refused for want of room",
        says("Sends and sessions refused for the node's own bounds, a second, over five minutes, of the worst gateway.",
             "From 0.1 a second on for ten minutes there is too little of something; a wave after a restart is shorter.",
             "`memory`: see *Resident memory*; `sessions_per_node`: *Open*; `session_opens`: *Opened, by result*.",
             "GatewayLimiting"),
        [Query(f"max by (limit) ({series('gateway:room_refused:rate5m')})", "{{limit}}")], "ops", width=12,
        thresholds=steps(("orange", 0.1)), soft_maximum=0.12)


def readings():
    changed = f"increase({series('gateway_credential_reloads_total')}[$__rate_interval])"
    return lines(
        "Credentials read again",
        says("How often keys and certificates were read again, by where from and how it ended, and whether the last reading "
             "failed (`stale`, 1 until one goes well).",
             "Stale keys: what was revoked still opens; a stale certificate is noticed when it is over.",
             "Read the log line, which names the file and what is wrong with it.",
             "GatewayCredentialsStale", "GatewayCertificateStale"),
        [Query(f"sum by (source, result) ({changed}) > 0", "{{source}} {{result}}"),
         Query(f"max by (source) ({series('gateway_credentials_stale')}) > 0", "{{source}} stale")], "short", width=6,
        decimals=0, soft_maximum=1, empty="none read again",
        overrides=[shades("/ changed$/", "green"), shades("/ (failed|stale)$/", "red")])


def ready():
    return lines(
        "Ready",
        says("1 while a gateway takes work, 0 while it does not.",
             "0 without a stop: its log does not move, or cannot be followed.",
             "Ask its `/health/ready`, which says why.",
             "GatewayNotReady"),
        [Query(f"min by (instance) ({series('gateway_ready')})", "{{instance}}")], "short", width=6, decimals=0, maximum=1)


def leaving():
    return lines(
        "A stop, and who is left",
        says("Sessions that a stopping gateway still waits for, and whether it is stopping (1).",
             "It does not fall: clients do not close on `drain`, and are cut at `shutdown.timeout`.",
             "Look at the last release of the client; what was not acked comes again."),
        [Query(f"sum by (instance) ({series('gateway_drain_remaining_sessions')})", "{{instance}} left"),
         Query(f"max by (instance) ({series('gateway_draining')})", "{{instance}} stopping")], "short", width=6, decimals=0,
        soft_maximum=1,
        overrides=[override("/ stopping$/", {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}, regular=True)])


def panics():
    return lines(
        "Panics in requests and sessions",
        says("Panics since the value before; each cost one request or one session.",
             "Any is a bug of the gateway.",
             "Report its line in the log; if one client causes it, shut that one out.",
             "GatewayPanics"),
        [Query(f"sum by (instance) (increase({series('gateway_panics_total')}[$__rate_interval]))", "{{instance}}",
               at_rest="a sound gateway does not panic")], "short", width=6, decimals=0, soft_maximum=1)


def remembered():
    return lines(
        "Remembered of strangers",
        says("What senders and clients can make a gateway remember beside mailboxes, by kind, of the gateway that remembers most.",
             "Each kind has a bound and goes when its time is over; one that stays high although traffic fell is a bug.",
             "`addresses` and `senders`: rates that are watched, some thousands in a flood; `idempotency_keys`, `outcomes`: as many as "
             "the windows hold; `online_elsewhere`: as many users as other gateways have online."),
        [Query(same("gateway_remembered", by="kind"), "{{kind}}")], "short", width=24, decimals=0)
