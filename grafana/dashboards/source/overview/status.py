"""Is it fine? Twenty-two numbers, each green, or plain where no number would be bad in itself."""

from page import Section
from panels import says, steps, tile, zero_is
from queries import increase, process, quantile, rate, series

OVERLOADED = 'result="overloaded"'


def section():
    """Three lines of tiles: what senders and receivers feel, how much room is left, then who and what is turned away."""
    return Section("Is it fine?", [(4, felt()), (4, room()), (4, guarded())])


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
             says("Alerts that fire now, one for each gateway that is concerned; red regions in the panels below say since when.",
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
             says("Free space of the log's disk, or what is left of its stream or on the disk of its copy, as a multiple of the "
                  "reserve, of the gateway with the least; a log in memory has no reserve.",
                  "At 1 every send is answered with 503.",
                  "Make room there: it recovers by itself.",
                  "GatewayLogDiskNearlyFull", "GatewayLogDiskFillingFast", "GatewayLogDiskFilling"),
             f"min({series('gateway:log_free:ratio')})", "suffix:× reserve", decimals=0, empty="in memory",
             thresholds=steps(("orange", 1), ("green", 2), start="red")),
        tile("Memory",
             says("Resident memory as a share of that beyond which sends and sessions are refused, of the gateway with the most.",
                  "At 100 % they are, until there is less.",
                  "Look at *Resident memory* and *Memory for each session*.",
                  "GatewayMemoryNearLimit"),
             f"max({series('gateway:memory_admission:ratio')})", "percentunit", decimals=1, thresholds=steps(("orange", 0.9)),
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


def guarded():
    """Whom and what the gateway turns away, and whether it does so rightly."""
    return [
        tile("Not ready",
             says("Gateways that run, are not stopping, and say that they are not ready.",
                  "Anything but 0: its sends are answered with 503.",
                  "Ask its `/health/ready`, which says why.",
                  "GatewayNotReady"),
             f"sum(clamp_min(1 - {series('gateway_ready')} - {series('gateway_draining')}, 0))", "none", width=4,
             mappings=zero_is("none"), empty="none known", at_rest="a sound gateway is ready once it can be asked"),
        tile("To leave",
             says("Sessions that stopping gateways still wait for.",
                  "A number that does not fall: clients do not close, and are cut at `shutdown.timeout`.",
                  "See *A stop, and who is left*; clients should close on `drain`."),
             f"sum({series('gateway_drain_remaining_sessions')})", "short", width=4),
        tile("Wrong credentials",
             says("Credentials that the gateway does not know, a second, over five minutes, of the gateway that is shown most.",
                  "From 1 on it is a flood of guesses, or a key was taken from somebody who still uses it.",
                  "Look at *Refused for credentials*, and whether sends or sessions fell.",
                  "GatewayWrongCredentials"),
             f"max({series('gateway:wrong_credentials:rate5m')})", "ops", width=4, thresholds=steps(("red", 1))),
        tile("No room",
             says("Sends and sessions refused for want of memory or place, or because too many began at once, a second, over "
                  "five minutes, by the worst gateway and limit.",
                  "From 0.1 on for ten minutes it is more than a wave after a restart.",
                  "Look at *Refused for want of room*.",
                  "GatewayLimiting"),
             f"max({series('gateway:room_refused:rate5m')})", "ops", width=4, thresholds=steps(("orange", 0.1))),
        tile("Stale credentials",
             says("Files or addresses of keys, and certificates, that could not be read when last tried, counted by each gateway; "
                  "those of before hold.",
                  "Anything but 0: what was revoked still opens, what is new does not.",
                  "Read the log line, which names the file.",
                  "GatewayCredentialsStale", "GatewayCertificateStale"),
             f"sum({series('gateway_credentials_stale')})", "none", width=4, mappings=zero_is("none")),
        tile("Panics",
             says("Panics in the time that the page shows; each cost one request or one session.",
                  "Any is a bug of the gateway.",
                  "Report its line in the log.",
                  "GatewayPanics"),
             increase("gateway_panics_total"), "none", width=4, decimals=0, mappings=zero_is("none"),
             at_rest="a sound gateway does not panic"),
    ]
