"""Several gateways on one log: a row for each, whether each keeps up with the log, hears the others, and has the same books.
One gateway alone has one row, keeps up with itself and hears nobody."""

from page import Section
from panels import Query, lines, override, says, steps, table
from queries import process, rate, series

# What a row of the table shows: a heading, the expression, its unit, and why it may be 0.
COLUMNS = (
    ("ready", f"min by (instance) ({series('gateway_ready')})", "none", ""),
    ("log answers", f"min by (instance) ({series('gateway_log_reachable')})", "none", ""),
    ("behind the log", f"max by (instance) ({series('gateway_log_lag_seconds')})", "s", "a log of one's own is never behind"),
    ("hears", f"min by (instance) ({series('gateway_nodes')})", "none", ""),
    ("sessions", f"sum by (instance) ({series('gateway_sessions')})", "short", ""),
    ("accepted", rate("gateway_notifications_total", 'result="accepted"', by="instance"), "ops", ""),
    ("cores", f"sum by (instance) (rate({series('process_cpu_seconds_total')}[$__rate_interval]) "
              f"and on (job, instance) {series('gateway_build_info')})", "short", ""),
    ("memory", f"sum by (instance) ({process('process_resident_memory_bytes')})", "bytes", ""),
)
# Those that are 1 or 0.
YES_OR_NO = ("ready", "log answers")


def section():
    """Each by itself, then what has to be alike."""
    return Section("Gateways side by side", [
        (8, [each()]),
        (8, [behind(), entries_behind(), answers()]),
        (8, [books(), pending()]),
        (8, [hears(), unanswered()]),
    ])


def each():
    words = {"type": "value", "options": {
        "0": {"text": "no", "color": "red", "index": 0}, "1": {"text": "yes", "color": "green", "index": 1}}}
    letters = "ABCDEFGH"
    return table(
        "Each gateway",
        says("A row for each gateway, as it is now: whether it takes work and its log answers, how far it is behind, how many "
             "gateways it hears, itself included, and its share of the work.",
             "One row unlike the others.",
             "Choose that instance at the top of the page; its own section at the end has its course over time.",
             "GatewayNotReady", "GatewayLogUnreachable", "GatewayLogBehind", "GatewayNodeUnheard"),
        [Query(expression, instant=True, form="table", at_rest=reason) for _, expression, _, reason in COLUMNS],
        transformations=[
            {"id": "joinByField", "options": {"byField": "instance", "mode": "outer"}},
            {"id": "organize", "options": {
                "excludeByName": {f"Time {number}": True for number in range(1, len(COLUMNS) + 1)},
                "indexByName": {"instance": 0, **{f"Value #{letter}": place for place, letter in enumerate(letters, 1)}},
                "renameByName": {f"Value #{letter}": heading for letter, (heading, *_) in zip(letters, COLUMNS)},
            }},
        ],
        overrides=[*(override(heading, {"id": "unit", "value": unit}) for heading, _, unit, _ in COLUMNS),
                   *(override(heading, {"id": "mappings", "value": [words]},
                              {"id": "custom.cellOptions", "value": {"type": "color-text"}}) for heading in YES_OR_NO)])


def behind():
    return lines(
        "Behind the log",
        says("For how long a gateway has not reached what the log held; 0 while it keeps up, and with a log of its own.",
             "More than 2 s for a minute: its receivers get late what others accepted; beyond `log.stall_timeout` it is not ready.",
             "One of several: its processor, its disk, its way to NATS; all of them: the stream's leader.",
             "GatewayLogBehind"),
        [Query(f"max by (instance) ({series('gateway_log_lag_seconds')})", "{{instance}}",
               at_rest="a log of one's own is never behind")], "s", soft_maximum=2.4, thresholds=steps(("orange", 2)))


def entries_behind():
    return lines(
        "Entries behind the log",
        says("Entries that other gateways appended and this one has not applied yet, as of the last look, one a second.",
             "A line that climbs: more is written than this gateway can read.",
             "See *Processor* and *Busy share of workers*; a gateway that has just started reads what it missed.",
             "GatewayLogBehind"),
        [Query(f"max by (instance) ({series('gateway_log_lag_entries')})", "{{instance}}",
               at_rest="a log of one's own is never behind")], "short", decimals=0, soft_maximum=10)


def answers():
    return lines(
        "Log answers",
        says("1 while the log answers, 0 while NATS cannot be reached or the stream has no leader.",
             "0 for longer than an election of some seconds: nothing is accepted, and nothing new comes.",
             "One of several: its way to NATS; all of them: NATS has no majority.",
             "GatewayLogUnreachable"),
        [Query(f"min by (instance) ({series('gateway_log_reachable')})", "{{instance}}")], "short", decimals=0, maximum=1)


def books():
    return lines(
        "Came in, by gateway",
        says("Notifications that came to mailboxes, a second, as each gateway read them in the log.",
             "Lines of gateways that share a log lie on each other; one that stays away from the others is wrong, or behind.",
             "See *Behind the log* first; across a restart a line may show a peak that did not happen.",
             "GatewayNodesDiffer"),
        [Query(f"max by (instance) (rate({series('gateway_ledger_accepted_total')}[$__rate_interval]))", "{{instance}}")],
        "ops", width=12)


def pending():
    return lines(
        "Pending, by gateway",
        says("Notifications that wait in mailboxes, as each gateway counts them.",
             "As beside: gateways that share a log have the same number, but for the moment between two scrapes.",
             "If they differ while nothing is sent, keep the log lines and the copies of the log of two that differ, and report it.",
             "GatewayNodesDiffer"),
        [Query(f"max by (instance) ({series('gateway_mailbox_depth')})", "{{instance}}")], "short", width=12)


def hears():
    return lines(
        "Gateways that share the log",
        says("How many gateways with the same log each of them hears, itself included; 1 where the log is its own.",
             "Fewer than run: that one does not reach NATS, or is frozen; its sessions are not counted, its users seem offline.",
             "Look for *is silent* in the log lines of the others, and whether it is ready itself.",
             "GatewayNodeUnheard", "GatewayNodesFewer"),
        [Query(f"min by (instance) ({series('gateway_nodes')})", "{{instance}}")], "short", width=12, decimals=0)


def unanswered():
    return lines(
        "Not answered by other gateways",
        says("Questions about a user's sessions that another gateway did not answer within half a second, a second.",
             "A few when one is killed; a rise that stays is one that hangs, or NATS that loses messages.",
             "Repeat what was asked: a look counted too few sessions, a disconnect may have left some open."),
        [Query(rate("gateway_nodes_unanswered_total", by="instance"), "{{instance}}",
               at_rest="gateways that live answer, and one alone asks nobody")], "ops", width=12)
