"""Every send waits for the log: how fast it is and how much it may still take."""

from page import Section
from panels import Query, color, dashed, lines, says, steps
from queries import counted_quantile, mean, quantile, rate, series


def section():
    """Speed first, then size. Of a log that several gateways share the sizes are the stream's, the same from each of them."""
    return Section("Log", [(9, [appends(), slow(), batches()]), (8, [appended(), entries()]), (8, [room(), left()])])


def appends():
    return lines(
        "Append",
        says("How long one append to the log took, a batch of entries and one sync.",
             "A p99 above 100 ms is a slow disk, or slow NATS: every send waits for it.",
             "`iostat -x 1` on its machine, or that of the stream's leader: move what else writes there.",
             "GatewayLogSlow"),
        [Query(quantile(share, "gateway_log_append_seconds"), name)
         for share, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))],
        "s", empty="no append", thresholds=steps(("orange", 0.1)))


def slow():
    return lines(
        "Slow appends",
        says("The share of appends that took longer than 100 ms, over five minutes.",
             "An alert comes at 5 %.",
             "Give the log a disk of its own; disks on a network have bad hours.",
             "GatewayLogSlow"),
        [Query(f"max by (instance) ({series('gateway:log_append_slow:ratio_rate5m')})", "{{instance}}",
               at_rest="a small test does not make a disk slow")],
        "percentunit", empty="no append", thresholds=steps(("orange", 0.05)))


def batches():
    return lines(
        "Entries in an append",
        says("How many entries one append carried: what came while the one before was under way.",
             "Large batches with slow appends: the disk; with fast ones: a lot of load.",
             "Look at *Append*.",
             "GatewayLogSlow"),
        [Query(mean("gateway_log_batch_entries"), "mean"), Query(counted_quantile(0.99, "gateway_log_batch_entries"), "p99")],
        "short", empty="no append")


def appended():
    return lines(
        "Appends and entries not taken",
        says("Appends a second, and entries that the log did not take, by reason.",
             "`full`: the disk is at its reserve, or a log in memory at `log.memory_max_bytes`; `unavailable`, `ambiguous`: "
             "writing itself failed.",
             "Make room, raise that bound, or see what the system says about the disk (`dmesg`).",
             "GatewayLogAppendErrors", "GatewayOverloaded"),
        [Query(rate("gateway_log_append_seconds_count"), "appends"),
         Query(rate("gateway_log_append_errors_total", by="kind"), "not taken: {{kind}}",
               at_rest="a healthy log takes everything")], "ops", width=12,
        overrides=[color("not taken: full", "red"), color("not taken: unavailable", "red"),
                   color("not taken: ambiguous", "dark-red")])


def room():
    return lines(
        "Size and room",
        says("What the log takes, what it may still take, and the reserve at which sends are refused (0 for a log in "
             "memory; a tenth of `nats.max_bytes` for a stream).",
             "Where *free* meets *reserve* every send is refused with 503.",
             "Make room; README.md says under *Disk space* what keeps old entries.",
             "GatewayLogDiskNearlyFull"),
        [Query(f"max by (instance) ({series('gateway_log_bytes')})", "{{instance}} log"),
         Query(f"min by (instance) ({series('gateway_log_free_bytes')})", "{{instance}} free"),
         Query(f"max by (instance) ({series('gateway_log_reserve_bytes')})", "{{instance}} reserve")],
        # Nobody asks about less than a mebibyte; without an end the axis would have more lines than can be told apart.
        "bytes", width=12, logarithmic=True, minimum=2**20, overrides=[dashed("/ reserve$/")])


def left():
    foreseen = (("gateway:log_free_predicted:ratio4h", "in 4 hours"), ("gateway:log_free_predicted:ratio1d", "in a day"))
    return lines(
        "Free for the log, in reserves",
        says("Free space of the log's disk, or what is left of its stream or on the disk of its copy, as a multiple of the "
             "reserve, of the gateway with the least: now, and if it fills as it did in the last hour or in the last six.",
             "Below 2 now, or below 1 later, an alert comes; at 1 every send is refused; more than 10 is drawn as 10.",
             "See whether it is the log that grows, or something beside it; nothing is foreseen in the first half hour after a "
             "start.",
             "GatewayLogDiskNearlyFull", "GatewayLogDiskFillingFast", "GatewayLogDiskFilling"),
        [Query(f"clamp_max(min({series('gateway:log_free:ratio')}), 10)", "now"),
         # A disk can be full and no fuller.
         *(Query(f"clamp(min({series(recorded)}), 0, 10)", when, at_rest="a log that has just begun seems to fill at once")
           for recorded, when in foreseen)], "suffix:×", width=12, decimals=1,
        maximum=10, empty="in memory", thresholds=steps(("orange", 1), ("green", 2), start="red"))


def entries():
    return lines(
        "Entries in the log",
        says("Entries that are kept: those that still matter to somebody, and what came after them.",
             "A rise that goes on for longer than a day at an even rate of sends.",
             "A long `ttl_seconds` or a mailbox that stays full holds them.",
             "GatewayLogDiskFilling"),
        [Query(f"max by (instance) ({series('gateway_log_entries')})", "{{instance}}")], "short", width=12)
