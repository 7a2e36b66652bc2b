"""What senders ask for and what they are answered."""

from page import Section
from panels import Query, color, lines, says, shades
from queries import mean, quantile, rate, series, total_by

DURATION = "http_server_request_duration_seconds"
TURNED_AWAY = [color("overloaded", "red"), color("rejected", "orange"), color("invalid", "yellow"), color("too_large", "purple"),
               color("conflict", "#b877d9"), color("unauthorized", "#8a6d3b"), color("rate_limited", "#56a6a6")]


def section():
    """Rates first, then shares and durations."""
    return Section("Traffic", [(8, [offered(), reached()]), (8, [refused(), by_status()]), (8, [by_route(), durations()]),
                               (8, [fan_out(), connections()])])


def offered():
    return lines(
        "Offered, by answer",
        says("Notifications that senders offered, a second, by what the gateway answered.",
             "Any colour but green and blue is a sender that was turned away.",
             "`overloaded` is the gateway's fault, `rejected` a full mailbox, the others the sender's; *Refused for credentials* "
             "goes on with `unauthorized`, *Refused by limits* with `rate_limited`.",
             "GatewayOverloaded", "GatewayMailboxesRefuse", "GatewaySendersAtFault"),
        [Query(rate("gateway_notifications_total", by="result"), "{{result}}")], "ops", width=12, stacked=True,
        overrides=[color("accepted", "green"), color("repeated", "blue"), *TURNED_AWAY])


def reached():
    return lines(
        "Queued, written, acked",
        says("What came to a stage of delivery, a second; the stages do not count alike. Queued is once a notification "
             "on each gateway with a recipient online; written is once a delivery, to each session of each recipient; acked is no "
             "more than the last 64 of a session that one ack was for; what was written after waiting stands beside.",
             "`acked` at 0 while `written` goes on: clients take and do not ack.",
             "Compare a line with itself earlier, not with its neighbour; see what clients were changed to lately."),
        [Query(rate("gateway_push_latency_seconds_count", by="stage"), "{{stage}}"),
         Query(rate("gateway_stored_delivery_age_seconds_count"), "written after waiting")], "ops", width=12)


def refused():
    return lines(
        "Refused sends",
        says("The share of sends that were not accepted, by reason, over five minutes, of the worst gateway.",
             "An alert comes at 1 % `overloaded`, 5 % `rejected`, or 20 % of what is the sender's fault and not a "
             "question of its credential.",
             "Take the runbook's entry of that reason.",
             "GatewayOverloaded", "GatewayMailboxesRefuse", "GatewaySendersAtFault"),
        [Query(f"max by (result) ({series('gateway:send_refused:ratio_rate5m')})", "{{result}}")], "percentunit", width=12,
        empty="nothing sent", overrides=TURNED_AWAY)


def by_status():
    return lines(
        "Requests, by status",
        says("Answers of the public listener to all requests but those that become sockets, a second, by status code.",
             "5xx is the gateway's trouble, 401 and 403 somebody who may not.",
             "Find the line in the log; 404 and 405 of what is no route of the gateway's are noise from outside. A line begins "
             "with the first answer of its status, which is not in the rate.",
             "GatewayOverloaded", "GatewayAccessRefused"),
        [Query(rate("http_server_requests_total", by="http_response_status_code"), "{{http_response_status_code}}")],
        "reqps", width=12, empty="no request yet",
        overrides=[shades("/^[123]/", "green"), shades("/^4/", "yellow"), shades("/^5/", "red")])


def by_route():
    return lines(
        "Request p99, by route",
        says("99 of 100 requests of an operation on notifications took at most this long; others are counted, not timed.",
             "A send that takes long waits for the log.",
             "Compare with *Append* under *Log*; a send with `?wait=acked` waits for its receiver on purpose. Between "
             "its edges at 1, 5, 25, 100 and 250 ms, 1 and 5 s it is interpolated.",
             "GatewayLogSlow"),
        [Query(quantile(0.99, DURATION, by="http_request_method, http_route"), "{{http_request_method}} {{http_route}}")],
        "s", width=12, empty="no request yet")


def durations():
    return lines(
        "Requests on notifications",
        says("How long operations on notifications took, in percentiles: sending, outcomes, pulling, acking.",
             "A p50 that rises says that all wait, a p99 alone that some do.",
             "Compare with *Workers busy* and *Append*. Edges are at 1, 5, 25, 100 and 250 ms, 1 and 5 s: 0.5 ms says no more "
             "than that it was below 1 ms."),
        [Query(quantile(share, DURATION), name) for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))],
        "s", width=12, empty="no request yet")


def fan_out():
    return lines(
        "Online recipients of a notification",
        says("How many users with a session, on any gateway, one accepted notification reached at once, on average, by target; who "
             "is on two gateways is one of them, or two for `everybody`.",
             "A large topic costs as many writes as it has subscribers online.",
             "If pushes are late, split it or send less often.",
             "GatewayPushLatencyBudgetBurnFast"),
        [Query(mean("gateway_fanout_recipients", by="target"), "{{target}}")], "short", width=12, empty="nothing sent")


def connections():
    accept = series("gateway_accept_errors_total")
    return lines(
        "Requests in flight, connections failed",
        says("Requests that are being answered, and connections that could not be accepted or never sent a request.",
             "Failures to accept mean that descriptors have run out; requests that pile up wait for something.",
             "Raise the limit of open files.",
             "GatewayAcceptErrors"),
        [Query(f"sum({series('http_server_active_requests')})", "requests in flight",
               at_rest="one that is answered within a millisecond is seldom seen"),
         Query(f"{total_by('')}(increase({accept}[$__rate_interval]))", "failed to accept",
               at_rest="nothing here runs out of descriptors"),
         Query(f"{total_by('')}(increase({series('gateway_first_request_timeouts_total')}[$__rate_interval]))",
               "first request never came")],
        "short", width=12, overrides=[color("failed to accept", "red")])
