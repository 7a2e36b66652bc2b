"""From acceptance to the kernel, the time that the gateway is there for, and to the ack."""

from page import Section
from panels import Query, heatmap, lines, says, steps
from queries import quantile, rate, series

PUSH = "gateway_push_latency_seconds"
WRITTEN = 'stage="written"'
# Acks come when clients like: in one panel with the others they would be all that is seen.
BEFORE_ACKS = 'stage!="acked"'
# The edge of the objective, drawn where latencies are.
LATE = steps(("red", 0.25))


def section():
    """The whole distribution first: a percentile alone hides two humps."""
    return Section("Push latency", [(10, [distribution(), percentiles()]), (11, [tail(), middle(), acks(), budget()])])


def distribution():
    expression = f"sum by (le) (increase({series(PUSH + '_bucket', WRITTEN)}[$__rate_interval]))"
    return heatmap(
        "From acceptance to written",
        says("Pushes by how long they took until their last byte was handed to the kernel; the darker, the more; dots are "
             "traces.",
             "A second band above the first, or anything above 250 ms.",
             "Click a dot: its trace says where the time went.",
             "GatewayPushLatencyBudgetBurnFast"),
        Query(expression, "{{le}}", exemplars=True, form="heatmap"), "s", empty="no pushes")


def percentiles():
    shares = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"))
    return lines(
        "Written, percentiles",
        says("So long it took at most until 50, 90, 99 and 99.9 of 100 pushes were written; dots are traces.",
             "p99 above the red line is late by the objective.",
             "See in the panels below which stage it is; with the processor used up slow senders down.",
             "GatewayPushLatencyBudgetBurnFast", "GatewayPushLatencyBudgetBurnSlow"),
        [Query(quantile(share, PUSH, WRITTEN), name, exemplars=share == 0.99) for share, name in shares], "s", width=12,
        thresholds=LATE, empty="no pushes")


def tail():
    return lines(
        "p99 by stage",
        says("How long 99 of 100 needed from acceptance to standing in the mailbox (queued) and to the kernel (written).",
             "If queued rose, the gateway or its log is slow, or the clocks of two gateways differ; if only written did, sockets are.",
             "Mend that one; queued counts once a notification on each gateway with a recipient online and written once a delivery, "
             "so that a large topic weighs more in written.",
             "GatewayPushLatencyBudgetBurnFast"),
        [Query(quantile(0.99, PUSH, BEFORE_ACKS, by="stage"), "{{stage}}")], "s", width=6, empty="no pushes",
        logarithmic=True)


def middle():
    return lines(
        "p50 by stage",
        says("The same for the median.",
             "When it rises with the p99, everybody waits, not a few.",
             "Look at *Workers busy* and *Append*."),
        [Query(quantile(0.5, PUSH, BEFORE_ACKS, by="stage"), "{{stage}}")], "s", width=6, empty="no pushes",
        logarithmic=True)


def acks():
    return lines(
        "Acked, percentiles",
        says("From acceptance to the client's ack, for the last 64 pushes of a session that were not acked yet.",
             "Seconds say that clients are behind, or ack seldom on purpose.",
             "From 0.25 to 0.5 s is ordinary: the gateway's pings ask for an ack every 250 ms, and the load test acks as often. "
             "In between a percentile is interpolated and says no more than that."),
        [Query(quantile(share, PUSH, 'stage="acked"'), name) for share, name in ((0.5, "p50"), (0.99, "p99"))], "s", width=6,
        empty="no acks", logarithmic=True)


def budget():
    windows = ("5m", "30m", "1h", "6h")
    return lines(
        "Late pushes",
        says("The share of pushes that took longer than 250 ms over several windows, of the worst gateway.",
             "The objective allows 1 %; at 6 % or 14.4 % an alert fires.",
             "A short window above a long one: it gets worse; below it: it is over.",
             "GatewayPushLatencyBudgetBurnFast", "GatewayPushLatencyBudgetBurnSlow"),
        [Query(f"max({series('gateway:push_slow:ratio_rate' + window)})", window,
               at_rest="no push of a small test has to be late") for window in windows],
        "percentunit", width=6, empty="no pushes", thresholds=steps(("yellow", 0.01), ("orange", 0.06), ("red", 0.144)))
