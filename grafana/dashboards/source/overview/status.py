"""Is it fine? Sixteen numbers, each green, or plain where no number would be bad in itself."""

from page import Section
from panels import says, steps, tile, zero_is
from queries import process, quantile, rate, series

OVERLOADED = 'result="overloaded"'


def section():
    """Two lines of tiles: what senders and receivers feel, then how much room is left."""
    return Section("Is it fine?", [(4, felt()), (4, room())])


def felt():
    """What somebody outside would complain about."""
    known = f"last_over_time({series('gateway_build_info')}[1d])"
    return [
        tile("Gateways down",
             says("Targets that cannot be scraped, of those that were a gateway within the last day.",
                  "Anything but 0: receivers of that gateway get nothing.",
                  "See whether the process lives, then the last lines of its log.",
                  "GatewayDown", "GatewayAbsent", "GatewayRestartLoop"),
             f"sum(1 - ({series('up')} and on (job, instance) {known}))", "none", mappings=zero_is("none"),
             empty="none known"),
        tile("Firing alerts",
             says("Alerts of the gateway that fire now; red regions in the panels below say since when.",
                  "Each one means that somebody has to do something.",
                  "Open the alerts page of Prometheus; every alert has its entry in the runbook, grafana/README.md."),
             f'count(ALERTS{{alertstate="firing",alertname=~"Gateway.+",job=~"$job",instance=~"$instance|"}}) or vector(0)',
             "none", mappings=zero_is("none")),
        tile("Open sessions",
             says("WebSockets and event streams that are open now.",
                  "A sudden fall says that receivers were cut off.",
                  "Look at *Closed, by code* below."),
             f"sum({series('gateway_sessions')})", "short"),
        tile("Accepted",
             says("Notifications that were answered with 202, a second.",
                  "Nothing while senders send is bad.",
                  "Look at *Offered, by answer* below."),
             rate("gateway_notifications_total", 'result="accepted"'), "ops"),
        tile("Pushed",
             says("Notifications written to sessions that were connected when they came, a second.",
                  "Far below *Accepted* means that most recipients are away.",
                  "Compare online users with known users under *Sessions*."),
             rate("gateway_push_latency_seconds_count", 'stage="written"'), "ops"),
        tile("Push p99",
             says("99 of 100 pushes were handed to the kernel at most this long after their acceptance.",
                  "From 250 ms on they are late by the objective.",
                  "Compare the stages under *Push latency*: the one that rose is the one to mend.",
                  "GatewayPushLatencyBudgetBurnFast"),
             quantile(0.99, "gateway_push_latency_seconds", 'stage="written"'), "s",
             thresholds=steps(("red", 0.25)), empty="no pushes"),
        tile("Late pushes, 1 h",
             says("The share of pushes that took longer than 250 ms, over the last hour, of the worst gateway.",
                  "The objective allows 1 %; at 14.4 % a month's budget is gone in two days.",
                  "Look at *Push latency*.",
                  "GatewayPushLatencyBudgetBurnFast", "GatewayPushLatencyBudgetBurnSlow"),
             f"max({series('gateway:push_slow:ratio_rate1h')})", "percentunit", decimals=2,
             thresholds=steps(("orange", 0.01), ("red", 0.144)), empty="no pushes",
             at_rest="no push of a small test has to be late"),
        tile("Lost, 1 h",
             says("The share of what came to mailboxes that a full mailbox pushed out or refused, over the last hour, "
                  "of the worst gateway; of one that is younger than an hour over the last five minutes.",
                  "The objective allows 0.1 %; at 1.44 % a month's budget is gone in two days.",
                  "Look at *Mailboxes and backpressure*; nothing is said in the first five minutes after a start.",
                  "GatewayDeliveryLossBudgetBurnFast", "GatewayDeliveryLossBudgetBurnSlow"),
             f"max({series('gateway:delivery_lost:ratio_rate1h')})", "percentunit", decimals=2,
             thresholds=steps(("orange", 0.001), ("red", 0.0144)), empty="none known"),
    ]


def room():
    """What would become a complaint soon."""
    busy = f"rate({series('tokio_worker_busy_seconds_total')}[$__rate_interval]) / {series('tokio_workers')}"
    return [
        tile("Answered 503",
             says("The share of sends refused because the gateway cannot take them, over five minutes, "
                  "of the worst gateway.",
                  "From 1 % on senders are turned away: a full disk or a slow log, most often.",
                  "Look at *Log*.",
                  "GatewayOverloaded"),
             f"max({series('gateway:send_refused:ratio_rate5m', OVERLOADED)})", "percentunit",
             decimals=1, thresholds=steps(("red", 0.01)), empty="nothing sent",
             at_rest="a healthy gateway turns nobody away"),
        tile("Fullest mailbox",
             says("How full the fullest mailbox was since the scrape before, as a share of its bound.",
                  "At 100 % each further notification costs one.",
                  "See whether it is one user who is away, or all: *Pending* below.",
                  "GatewayMailboxSaturated"),
             f"max({series('gateway:mailbox_fill:ratio')})", "percentunit", decimals=0,
             thresholds=steps(("orange", 0.8))),
        tile("Books",
             says("By how much accepted notifications differ from those pending and those that became final.",
                  "Anything but 0 is a bug of the gateway.",
                  "Copy the log's directory while it holds what happened.",
                  "GatewayLedgerImbalance"),
             f"max({series('gateway_ledger_imbalance')})", "none", mappings=zero_is("even"),
             at_rest="the books of a sound gateway are balanced"),
        tile("Free for the log",
             says("Free space of the log's disk as a multiple of the reserve, of the gateway with the least; a log in memory "
                  "has no reserve.",
                  "At 1 every send is answered with 503.",
                  "Make room on that disk: it recovers by itself.",
                  "GatewayLogDiskNearlyFull", "GatewayLogDiskFillingFast", "GatewayLogDiskFilling"),
             f"min({series('gateway:log_free:ratio')})", "suffix:× reserve", decimals=0, empty="in memory",
             thresholds=steps(("orange", 1), ("green", 2), start="red")),
        tile("Memory",
             says("Resident memory as a share of what the process may take, of the gateway with the most.",
                  "At 100 % the kernel ends it, and every receiver reconnects.",
                  "Look at *Memory for each session*.",
                  "GatewayMemoryNearLimit"),
             f"max({series('gateway:memory:ratio')})", "percentunit", decimals=1, thresholds=steps(("orange", 0.7)),
             empty="no limit known"),
        tile("File descriptors",
             says("Open descriptors as a share of the limit, of the gateway with the most.",
                  "From 80 % on new connections are soon left waiting in the kernel.",
                  "Raise the limit of open files.",
                  "GatewayFileDescriptorsNearLimit"),
             f"max({series('gateway:file_descriptors:ratio')})", "percentunit", decimals=1,
             thresholds=steps(("orange", 0.8))),
        tile("Workers busy",
             says("The share of time in which the runtime's workers had something to do, of the busiest gateway.",
                  "Near 100 % everything waits for a processor.",
                  "Slow senders down, or give it more cores.",
                  "GatewayRuntimeSaturated"),
             f"max({busy})", "percentunit", decimals=0, thresholds=steps(("orange", 0.9))),
        tile("Youngest start",
             says("How long ago the gateway that started last did so.",
                  "If it is short and nobody deployed, one ended by itself.",
                  "Read the last line before the end and the exit code.",
                  "GatewayRestartLoop"),
             f"min(time() - {process('process_start_time_seconds')})", "s", decimals=0),
    ]
