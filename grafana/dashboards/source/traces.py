"""Traces: single notifications from send to ack, and how to get from a slow one in a panel to its trace."""

from page import Section, dashboard
from panels import JAEGER, Query, bars, color, lines, says, table
from queries import mean, quantile, rate, series

PUSH = "gateway_push_latency_seconds"
SHARES = ((0.5, "p50"), (0.99, "p99"))
# Diamonds are blue.
STAGES = (("queued", "green"), ("written", "orange"))
NO_TRACES = "no traces: are they switched on?"


def traces():
    """The dashboard and what the live test expects of its expressions."""
    text = "Where did the time of one notification go? Dots are traces; the tables find those that were slow or failed."
    return dashboard("gw-traces", text, [
        Section("From a number to a trace", [(11, [scatter(), slowest()])]),
        Section("Found in the trace store", [(10, [slow_deliveries(), failed()]), (10, [latest()])]),
        Section("Do traces arrive?", [(8, [exported(), dropped()])]),
    ])


def scatter():
    return lines(
        "Pushes, with their traces",
        says("Percentiles of pushes, until they stood in the mailbox and until they were written; diamonds are single pushes "
             "whose trace was kept, by how long they took until written.",
             "A diamond above 250 ms, or far above its neighbours.",
             "Point at it, then follow the link of its `trace_id`: the longest bar is the stage to mend.",
             "GatewayPushLatencyBudgetBurnFast"),
        # A diamond does not show its stage: those of the queue would lie among those of pushes that were late.
        [*(Query(quantile(share, PUSH, 'stage="queued"'), "queued " + name) for share, name in SHARES),
         *(Query(quantile(share, PUSH, 'stage="written"'), "written " + name, exemplars=share == 0.99)
           for share, name in SHARES)],
        "s", width=16, points=True, logarithmic=True, empty="no pushes",
        overrides=[color(f"{stage} {name}", shade + base) for stage, base in STAGES
                   for (_, name), shade in zip(SHARES, ("light-", ""))])


def slowest():
    queued, written = (mean(PUSH, f'stage="{stage}"') for stage in ("queued", "written"))
    # The means are over different things, a notification and its deliveries: less than nothing is nothing.
    return bars(
        "Where the time goes",
        says("The mean time from acceptance to the mailbox, and from there to the kernel. The first counts each notification "
             "once a gateway and the second each delivery, so that a large topic weighs more in the second.",
             "The longer bar is the slower stage: the log, or the gateway and its sockets.",
             "Look at *Log*, then at *Resources*. Acks are not here, as clients ack when they like: *Acked, percentiles*.",
             "GatewayPushLatencyBudgetBurnFast", "GatewayLogSlow"),
        [Query(queued, "to mailbox", instant=True),
         Query(f"clamp_min({written} - {queued}, 0)", "to kernel", instant=True)], "s", empty="no pushes")


def search(operation="", tags="", longer_than=""):
    """A search of the trace store."""
    return {"queryType": "search", "service": "gateway", "operation": operation, "tags": tags,
            "minDuration": longer_than, "maxDuration": "", "limit": 20}


def found(title, description, searches, *, width=12, empty="none found"):
    """A table of the traces that any of these searches finds. What two of them find is one row."""
    made_one = [{"id": "merge", "options": {}}] if len(searches) > 1 else []
    panel = table(title, description, searches, width=width, datasource=JAEGER, empty=empty, transformations=made_one)
    panel.settings["options"]["sortBy"] = [{"displayName": "Start time", "desc": True}]
    return panel


def slow_deliveries():
    return found(
        "Steps that took longer than 250 ms",
        says("Traces with a step that took longer than 250 ms: to publish, in the mailbox, or from there to the socket.",
             "Many of one session are a slow client; of many sessions the gateway or its log.",
             "Open one: `publish` is the log's time, `queue` the time until the session came for it, `deliver` the way to the "
             "socket. A push that was late by many small steps is not found here, but by its diamond above.",
             "GatewayPushLatencyBudgetBurnFast"),
        [search(step + " notifications", longer_than="250ms") for step in ("publish", "queue", "deliver")])


def failed():
    # An error of a publish span may be its sender's: too_large, conflict. In a batch, which is answered with 202 whatever
    # became of it, the gateway's own stands nowhere else.
    return found(
        "Failed",
        says("Traces with a request that was answered with 5xx, a send that the log did not take, or a session that ended "
             "before it was written; what senders did wrong is left out.",
             "Requests and sends that failed are the gateway's trouble, or under the policy `reject` full mailboxes (507).",
             "`error.type` of the span says what it was.",
             "GatewayOverloaded", "GatewayMailboxesRefuse"),
        [search(tags="error=true span.kind=server"), search("publish notifications", "error.type=unavailable"),
         search("publish notifications", "error.type=unknown"), search("deliver notifications", "error=true")])


def latest():
    return found(
        "Latest sends",
        says("The latest sends whose traces were kept.",
             "None although something is sent: traces are off, or all are sampled out.",
             "Set `OTEL_EXPORTER_OTLP_ENDPOINT`, and a ratio in `OTEL_TRACES_SAMPLER_ARG`."),
        [search("POST /v1/notifications")], width=24, empty=NO_TRACES)


def exported():
    return lines(
        "Spans exported",
        says("Spans that the trace store took, a second.",
             "0 although traces are on and something is sent.",
             "See *Spans dropped* beside; 0 in both means that traces are off or sampled out."),
        [Query(f"sum by (instance) (rate({series('gateway_otel_spans_exported_total')}[$__rate_interval]))", "{{instance}}",
               at_rest="the live test's trace store is a port at which nobody listens")], "ops", width=12)


def dropped():
    return lines(
        "Spans dropped",
        says("Spans that did not reach the trace store, a second; pushes do not wait for it.",
             "`queue_full`: more than the exporter carries; `export_failed`: the store is down or slow.",
             "Lower the ratio of the sampler, or see to the store.",
             "GatewaySpansDropped"),
        [Query(rate("gateway_otel_spans_dropped_total", by="reason"), "{{reason}}")], "ops", width=12,
        soft_maximum=1, overrides=[color("queue_full", "orange"), color("export_failed", "red")])
