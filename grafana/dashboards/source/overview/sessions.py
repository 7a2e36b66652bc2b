"""Who is connected, how sessions begin and end."""

from page import Section
from panels import Query, color, lines, override, says, shades, steps
from queries import counted_quantile, mean, quantile, rate, same, series


def section():
    """Levels and ends, beginnings, then the sockets themselves."""
    return Section("Sessions", [
        (8, [open_sessions(), closed()]),
        (11, [opened(), beginnings(), replayed()]),
        (9, [churn(), round_trip(), durations(), acks()]),
        (8, [traffic(), users()]),
    ])


def open_sessions():
    return lines(
        "Open",
        says("Open sessions by transport, the users who hold them, and all connections of the public listener.",
             "A sudden fall is a cut; connections far above sessions are senders, or sockets that never became one.",
             "See beside how they ended.",
             "GatewayConnectionChurn"),
        [Query(f"sum by (transport) ({series('gateway_sessions')})", "{{transport}}"),
         Query(f"sum({series('gateway_users')})", "users online"),
         Query(f"sum({series('gateway_connections')})", "connections")], "short", width=12)


def opened():
    return lines(
        "Opened, by result",
        says("Attempts to open a session, a second.",
             "`origin` is a page from elsewhere, `unauthorized` a credential that does not do, `overloaded` a gateway that is "
             "stopping or full, `rate_limited` too many at once.",
             "Add the page's origin to `http.allowed_origins` if it is yours; for the others see *Access and limits*.",
             "GatewayAccessRefused", "GatewayLimiting"),
        # As with codes below: what did not happen in this time would only fill the legend.
        [Query(f"{rate('gateway_sessions_opened_total', by='transport, result')} > 0", "{{transport}} {{result}}")], "ops",
        empty="none opened")


def closed():
    return lines(
        "Closed, by code",
        says("Sessions that ended, a second, by close code and by who ended them; 1000 and 1001 are ordinary.",
             "1006 is a broken connection, 4108 a client that takes nothing, 4112 one that does not answer; an event stream has "
             "no code, and one whose client left is `other client`.",
             "4009 is a user with too many sockets, 4205 a token that was not refreshed, 4001 a key that was revoked, 1011 a fault "
             "of the gateway: the log says which.",
             "GatewayConnectionChurn"),
        # Thirty combinations exist; those that never happened in this time would only fill the legend.
        [Query(f"{rate('gateway_sessions_closed_total', by='code, initiator')} > 0", "{{code}} {{initiator}}")], "ops", width=12,
        stacked=True, empty="none ended",
        overrides=[shades("/^100[01] /", "green"), shades("/^1006 /", "yellow"), shades("/^1011 /", "red"),
                   shades("/^other /", "blue"), shades("/^(100[2-57-9]|4...) /", "orange")])


def beginnings():
    return lines(
        "How sessions began",
        says("Sessions a second: fresh, resumed where they were, resumed with a gap, or with a position of another log.",
             "`gap` means that some of what the client missed is gone; `foreign` that the log was replaced.",
             "See *Gaps told to receivers* for the reason.",
             "GatewayDeliveryLossBudgetBurnFast"),
        [Query(rate("gateway_session_resumes_total", by="outcome"), "{{outcome}}")], "ops", stacked=True,
        overrides=[color("resumed", "green"), color("fresh", "blue"), color("gap", "red"), color("foreign", "purple")])


def replayed():
    return lines(
        "Waiting for a session that comes",
        says("How many notifications waited for a session when it began, on average and at the 99th percentile.",
             "Hundreds after a break: it lasted, or the sender is loud.",
             "After a restart expect one wave of them; a deploy spreads it over `shutdown.reconnect_window`."),
        [Query(mean("gateway_session_replayed_notifications"), "mean"),
         Query(counted_quantile(0.99, "gateway_session_replayed_notifications"), "p99")], "short", empty="none began")


def churn():
    return lines(
        "Sessions that break, of those open",
        says("Sessions a second that the gateway or the network ended, for each open one, over five minutes.",
             "At 1 % a session lasts 100 seconds.",
             "Take the code from *Closed, by code*; with a proxy in front its idle timeout is the first suspect.",
             "GatewayConnectionChurn"),
        [Query(f"max by (instance) ({series('gateway:connection_churn:ratio_rate5m')})", "{{instance}}")], "percentunit", width=6,
        thresholds=steps(("orange", 0.01)))


def round_trip():
    return lines(
        "Ping round trip",
        says("From a ping that asks for an ack to its pong; with `?ack=client` no ping asks, and event streams have none.",
             "It is the clients' network: if it rises for all, yours.",
             "Compare with *Workers busy*: a gateway that is behind reads pongs late."),
        [Query(quantile(share, "gateway_ping_round_trip_seconds"), name) for share, name in ((0.5, "p50"), (0.99, "p99"))],
        "s", width=6, empty="no pong: with ?ack=client none is asked for")


def durations():
    return lines(
        "How long sessions lasted",
        says("Sessions that ended, by how long they had lasted.",
             "All of one length: something cuts them at that age.",
             "Compare it with the idle timeout of the proxy and with `sessions.heartbeat`.",
             "GatewayConnectionChurn"),
        [Query(quantile(share, "gateway_session_duration_seconds"), name) for share, name in ((0.5, "p50"), (0.99, "p99"))],
        "s", width=6, empty="none ended")


def acks():
    return lines(
        "Acks, by way",
        says("Acks that clients sent, a second: by the pong of their library, by a frame, or by HTTP.",
             "None while pushes go on: mailboxes fill.",
             "A client with `?ack=client` has to send frames; see its last release.",
             "GatewayMailboxSaturated"),
        [Query(rate("gateway_acks_total", by="source"), "{{source}}")], "ops", width=6)


def traffic():
    return lines(
        "Bytes over WebSockets",
        says("Bytes a second, framing included; what goes out is drawn upwards, what comes in downwards.",
             "A rise without more pushes is larger notifications.",
             "Compare with what the network card can do."),
        [Query(rate("gateway_ws_bytes_total", by="direction"), "{{direction}}")], "Bps", width=12, minimum=None,
        overrides=[override("in", {"id": "custom.transform", "value": "negative-Y"})])


def users():
    return lines(
        "Users and topics",
        says("Users that a gateway knows of, the one that knows most: online there, or with something in their mailbox; users "
             "online, of whom one on two gateways counts twice; topics that have subscribers; subscriptions.",
             "Known users far above those online are mailboxes that wait for people who may never come.",
             "Have senders stop for them, or forget them: `DELETE /v1/users/{user}`.",
             "GatewayDeliveryLossBudgetBurnSlow"),
        [Query(same("gateway_known_users"), "known"), Query(f"sum({series('gateway_users')})", "online"),
         Query(same("gateway_topics"), "topics"),
         Query(same("gateway_topic_memberships"), "subscriptions")], "short", width=12)
