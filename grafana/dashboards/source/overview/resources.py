"""What the process takes of the machine, and what it tells the trace store."""

from page import Section
from panels import Query, color, dashed, lines, override, says, steps, table
from queries import process, rate, series


def section():
    """Processor, memory, descriptors, then traces and what runs."""
    return Section("Resources", [
        (9, [processor(), workers(), tasks()]),
        (8, [memory(), memory_for_each(), descriptors()]),
        (9, [threads(), spans(), what_runs()]),
    ])


def of_process(metric):
    """A counter of a gateway's process, a second."""
    return (f"(rate({series(metric)}[$__rate_interval]) "
            f"and on (job, instance) {series('gateway_build_info')})")


def processor():
    return lines(
        "Processor",
        says("Cores that the process kept busy.",
             "As many as there are: everything waits.",
             "Slow senders down, or give it more cores.",
             "GatewayPushLatencyBudgetBurnFast"),
        [Query(f"sum by (instance) ({of_process('process_cpu_seconds_total')})", "{{instance}}")], "short")


def workers():
    busy = f"rate({series('tokio_worker_busy_seconds_total')}[$__rate_interval]) / {series('tokio_workers')}"
    return lines(
        "Busy share of workers",
        says("The share of time in which the runtime's worker threads had something to do.",
             "From 90 % on each task waits for the others, and pushes with them.",
             "More cores, fewer recipients for each send.",
             "GatewayRuntimeSaturated"),
        [Query(f"max by (instance) ({busy})", "{{instance}}")], "percentunit", maximum=1,
        thresholds=steps(("orange", 0.9)))


def tasks():
    return lines(
        "Tasks",
        says("Tasks that live, those that wait in the runtime's shared queue, and how often a second a worker went to sleep.",
             "A queue that stays above 0: workers do not keep up.",
             "Live tasks follow connections; if they only grow, that is a leak and a bug."),
        [Query(f"sum({series('tokio_live_tasks')})", "live"),
         Query(f"sum({series('tokio_global_queue_depth')})", "waiting", at_rest="workers that keep up leave no queue"),
         Query(rate("tokio_worker_parks_total"), "sleeps a second")], "short")


def memory():
    return lines(
        "Resident memory",
        says("Resident memory, that beyond which sends and sessions are refused, and the limit of its control group or the "
             "machine's memory.",
             "From 90 % of the middle line on an alert comes; at the limit the kernel ends the process.",
             "See beside what each session costs; `frames.cache` and `mailbox.max_bytes` bound the rest.",
             "GatewayMemoryNearLimit"),
        [Query(f"sum by (instance) ({process('process_resident_memory_bytes')})", "{{instance}}"),
         Query(f"max by (instance) ({series('gateway_memory_admission_bytes')} > 0)", "{{instance}} refuses"),
         Query(f"max by (instance) ({series('gateway_memory_limit_bytes')} > 0)", "{{instance}} limit")], "bytes",
        logarithmic=True, overrides=[dashed("/ (limit|refuses)$/")])


def memory_for_each():
    sessions = f"sum by (job, instance) ({series('gateway_sessions')})"
    return lines(
        "Memory for each session",
        says("Resident memory, divided by open sessions where there are twenty or more: with fewer it would be the fixed "
             "part that is seen.",
             "A rise at an even number of sessions: mailboxes grow, or something leaks.",
             "Compare with *Pending bytes* and *Entries in the log*."),
        [Query(f"{process('process_resident_memory_bytes')} / on (job, instance) ({sessions} >= 20)", "{{instance}}")],
        "bytes", empty="fewer than twenty sessions", logarithmic=True)


def descriptors():
    return lines(
        "Open descriptors",
        says("Open descriptors as a share of the limit.",
             "From 80 % on new connections are soon left waiting in the kernel.",
             "Raise the limit of open files; if connections do not explain it, something leaks.",
             "GatewayFileDescriptorsNearLimit", "GatewayAcceptErrors"),
        [Query(f"{process('process_open_fds')} / {process('process_max_fds')}", "{{instance}}")], "percentunit",
        thresholds=steps(("orange", 0.8)))


def threads():
    return lines(
        "Threads",
        says("Threads of the process: workers, the log's, and those for short blocking work.",
             "A number that only grows is a leak.",
             "Report it with the log lines."),
        [Query(f"sum by (instance) ({process('process_threads')})", "{{instance}}")], "short", decimals=0)


def spans():
    return lines(
        "Spans",
        says("Spans handed to the trace store, and those dropped, a second; both 0 where traces are off.",
             "`queue_full`: more than the exporter carries; `export_failed`: the store is down or slow.",
             "Lower the ratio of the sampler, or see to the store: pushes do not wait for it.",
             "GatewaySpansDropped"),
        [Query(rate("gateway_otel_spans_exported_total"), "exported",
               at_rest="the live test's trace store is a port at which nobody listens"),
         Query(rate("gateway_otel_spans_dropped_total", by="reason"), "dropped: {{reason}}")], "ops",
        overrides=[color("dropped: queue_full", "orange"), color("dropped: export_failed", "red")])


def what_runs():
    return table(
        "What runs",
        says("Version, revision and policy of full mailboxes of each gateway, and whether it is stopping.",
             "Two versions beside one another outside a deploy.",
             "Finish the deploy, or take it back."),
        [Query(series("gateway_build_info"), instant=True, form="table"),
         Query(series("gateway_config_info"), instant=True, form="table"),
         Query(series("gateway_draining"), instant=True, form="table", at_rest="nothing is being stopped at the end")],
        width=8,
        transformations=[
            {"id": "joinByField", "options": {"byField": "instance", "mode": "outer"}},
            {"id": "organize", "options": {
                "excludeByName": {name: True for name in (
                    "Time 1", "Time 2", "Time 3", "__name__ 1", "__name__ 2", "__name__ 3", "job 1", "job 2", "job 3",
                    "Value #A", "Value #B")},
                "indexByName": {"instance": 0, "version": 1, "revision": 2, "overflow_policy": 3, "Value #C": 4},
                "renameByName": {"overflow_policy": "full mailboxes", "Value #C": "stopping"},
            }},
        ],
        # All five fit: the last one, for which one looks here during a deploy, would else lie outside.
        overrides=[*(override(column, {"id": "custom.width", "value": width})
                     for column, width in (("version", 65), ("revision", 110), ("full mailboxes", 112))),
                   override("instance", {"id": "custom.minWidth", "value": 115}),
                   override("stopping", {"id": "custom.width", "value": 85}, {"id": "mappings", "value": [
                       {"type": "value", "options": {
                           "0": {"text": "no", "index": 0}, "1": {"text": "yes", "color": "orange", "index": 1}}}]})])
