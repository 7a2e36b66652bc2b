"""The same few panels for each gateway by itself: which one of them is it?"""

from page import Section
from panels import Query, color, lines, says, steps
from queries import process, quantile, rate, same, same_rate, series

PUSH = "gateway_push_latency_seconds"


def section():
    """Grafana repeats this row for each chosen instance."""
    return Section("Gateway $instance", [
        (8, [flow(), latency(), sessions()]), (8, [processor(), memory(), pending()]), (8, [well(), behind()])],
                   repeat="instance", collapsed=True)


def flow():
    return lines(
        "Accepted and written",
        says("Notifications that this gateway accepted, and that it wrote to connected sessions, a second.",
             "One gateway far from the others: its share of senders or receivers is another.",
             "Look at what spreads them."),
        [Query(rate("gateway_notifications_total", 'result="accepted"'), "accepted"),
         Query(rate(PUSH + "_count", 'stage="written"'), "written")], "ops")


def latency():
    return lines(
        "Written, p50 and p99",
        says("So long 50 and 99 of 100 pushes of this gateway took until they were written.",
             "One gateway above the others: its machine, its disk or its network.",
             "Compare its processor and its log.",
             "GatewayPushLatencyBudgetBurnFast"),
        [Query(quantile(share, PUSH, 'stage="written"'), name) for share, name in ((0.5, "p50"), (0.99, "p99"))], "s",
        thresholds=steps(("red", 0.25)), empty="no pushes")


def sessions():
    return lines(
        "Sessions of this gateway",
        says("Open sessions by transport.",
             "None: receivers do not find it, or it has just started.",
             "See its *Closed, by code* by choosing the instance above.",
             "GatewayConnectionChurn"),
        [Query(f"sum by (transport) ({series('gateway_sessions')})", "{{transport}}")], "short")


def processor():
    expression = f"rate({series('process_cpu_seconds_total')}[$__rate_interval])"
    return lines(
        "Processor of this gateway",
        says("Cores that the process kept busy.",
             "As many as there are: everything waits.",
             "Slow senders down, or give it more cores."),
        [Query(f"sum({expression} and on (job, instance) {series('gateway_build_info')})", "cores")], "short")


def memory():
    return lines(
        "Memory of this gateway",
        says("Resident memory.",
             "A rise that does not end at an even number of sessions.",
             "Compare with what is pending."),
        [Query(f"sum({process('process_resident_memory_bytes')})", "resident")], "bytes")


def pending():
    return lines(
        "Pending and dropped",
        says("Notifications that wait, and those that full mailboxes dropped, a second; the same on every gateway that shares the "
             "log.",
             "Anything dropped is a loss.",
             "See the section on mailboxes.",
             "GatewayMailboxSaturated", "GatewayDeliveryLossBudgetBurnFast"),
        [Query(same("gateway_mailbox_depth"), "pending"),
         Query(same_rate("gateway_mailbox_dropped_total"), "dropped a second")], "short",
        overrides=[color("dropped a second", "red")])


def well():
    return lines(
        "Ready, and its log",
        says("1 while this gateway takes work, and while its log answers it; how many gateways it hears, itself included.",
             "0 of either, or fewer heard than run.",
             "Ask its `/health/ready`, which says why.",
             "GatewayNotReady", "GatewayLogUnreachable", "GatewayNodeUnheard"),
        [Query(f"min({series('gateway_ready')})", "ready"), Query(f"min({series('gateway_log_reachable')})", "log answers"),
         Query(f"min({series('gateway_nodes')})", "gateways heard")], "short", width=12, decimals=0)


def behind():
    return lines(
        "Behind the log, this gateway",
        says("For how long it has not reached what the log held; 0 while it keeps up, and with a log of its own.",
             "More than 2 s for a minute: its receivers get late what others accepted.",
             "Compare with its processor beside, and with the same panel of the others.",
             "GatewayLogBehind"),
        [Query(f"max({series('gateway_log_lag_seconds')})", "behind", at_rest="a log of one's own is never behind")], "s",
        width=12, soft_maximum=2.4, thresholds=steps(("orange", 2)))
