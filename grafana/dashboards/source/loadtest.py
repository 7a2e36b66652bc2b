"""A load test: what receivers counted and felt, laid over what the gateway says of itself."""

from page import Section, dashboard
from panels import Query, color, dashed, heatmap, lines, override, says, table, tile, zero_is
from queries import increase, process, quantile, rate, series

NO_RUN = "no run"
CLIENT = "loadtest_push_latency_seconds"
SERVER = "gateway_push_latency_seconds"
INTENDED = 'kind="intended"'
WRITTEN = 'stage="written"'
SHARES = ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))
VERDICTS = (("0", "passed", "green"), ("1", "wrong usage", "orange"), ("2", "not set up", "orange"),
            ("3", "too slow", "orange"), ("4", "lost, doubled or swapped", "red"), ("5", "says nothing", "yellow"))


def load_test():
    """The dashboard and what the live test expects of its expressions."""
    text = "Does the gateway deliver what it accepts, once, in order, in time? What sockets counted, beside what it says."
    return dashboard("gw-loadtest", text, [
        Section("What receivers counted, in the time shown", [(4, counted())]),
        Section("Client truth over server claim", [(11, [both(), lateness()]), (10, [distribution(), numbers()])]),
        Section("The gateway meanwhile", [(8, gateway())]),
        Section("Runs", [(8, [runs()])]),
    ], load_test=True)


def verdict_mappings():
    """The exit codes of the tool in words."""
    words = {code: {"text": text, "color": shade, "index": index} for index, (code, text, shade) in enumerate(VERDICTS)}
    running = {"text": "not judged yet", "color": "blue", "index": len(VERDICTS)}
    return [{"type": "value", "options": words}, {"type": "special", "options": {"match": "nan", "result": running}}]


def counted():
    """Tiles of all runs in the time shown: nothing there is not 0, it is no run."""
    return [
        tile("Last verdict",
             says("What the run that was there last ended with, its exit code in words.",
                  "Red: something was lost without a word, came twice or in the wrong order.",
                  "The tool's own report says which criterion; *says nothing* is a run that measured itself."),
             f"last_over_time({series('loadtest_verdict')}[$__range])", "none", mappings=verdict_mappings(), empty=NO_RUN,
             reducer="last", at_rest="0 is a run that passed"),
        tile("Sockets",
             says("Sockets of the load test that are connected now.",
                  "Fewer than asked for: the gateway refuses some, or the tool ran out of descriptors.",
                  "Compare with *Sessions* below."),
             f"sum({series('loadtest_users')})", "short", empty=NO_RUN),
        tile("Offered",
             says("Notifications a second that are due now.",
                  "It is the tool's plan, not what the gateway took.",
                  "Compare with *Sent and received*."),
             f"sum({series('loadtest_offered_rate')})", "ops", empty=NO_RUN),
        tile("Sent",
             says("Notifications that were accepted, of all runs in the time shown.",
                  "Far fewer than offered: sends were refused.",
                  "See the answers in *Sent and received*."),
             increase("loadtest_sent_total", 'result="accepted"'), "locale", decimals=0, empty=NO_RUN),
        tile("Received",
             says("Receptions, a notification at a socket for the first time; one notification to many makes many.",
                  "None while something is sent.",
                  "See whether sockets are connected."),
             increase("loadtest_received_total"), "locale", decimals=0, empty=NO_RUN),
        tile("Missing",
             says("Receptions that are owed, did not happen, and were announced by no gap; known at the end of a run.",
                  "Anything but 0 is a silent loss: a bug.",
                  "Keep the run's `--json`, and report it; what gaps announced is in *Sent and received*."),
             increase("loadtest_missing_total", 'announced="no"'), "none", decimals=0, mappings=zero_is("none"),
             empty=NO_RUN, at_rest="nothing is to be lost in silence"),
        tile("Duplicates",
             says("Receptions of what the same socket had received before.",
                  "Anything but 0 is a bug.",
                  "Keep the run's `--json`, and report it."),
             increase("loadtest_duplicates_total"), "none", decimals=0, mappings=zero_is("none"), empty=NO_RUN,
             at_rest="nothing is to come twice"),
        tile("Out of order",
             says("Receptions behind one that was sent later in the same stream.",
                  "Anything but 0 is a bug.",
                  "Keep the run's `--json`, and report it."),
             increase("loadtest_order_violations_total"), "none", decimals=0, mappings=zero_is("none"), empty=NO_RUN,
             at_rest="nothing is to come in the wrong order"),
    ]


def both():
    received = [Query(quantile(share, CLIENT, INTENDED), f"receiver {name}") for share, name in SHARES]
    service = [Query(quantile(0.99, CLIENT, 'kind="service"'), "receiver p99, from the POST on")]
    claimed = [Query(quantile(share, SERVER, WRITTEN), f"gateway {name}", exemplars=share == 0.99)
               for share, name in SHARES]
    return lines(
        "Push: receivers and gateway",
        says("Receivers count from when a send was due to the frame read; the gateway (dashed) from acceptance to written.",
             "Receivers far above the gateway: the time is lost before acceptance, in the network, or in this tool.",
             "If *from the POST on* is low, sends began late; see *The tool's own delay* beside before anything is believed.",
             "GatewayPushLatencyBudgetBurnFast"),
        received + service + claimed, "s", width=16, logarithmic=True, minimum=None, empty=NO_RUN,
        overrides=[dashed("/^gateway/"), color("receiver p99, from the POST on", "yellow"), *(color(f"{who} {name}", shade) for who in ("receiver", "gateway")
                                          for name, shade in (("p50", "green"), ("p99", "orange"), ("p99.9", "red")))])


def lateness():
    return lines(
        "The tool's own delay",
        says("How much later than due the tool's schedule handed a send over.",
             "Above 10 ms the run says little about the gateway.",
             "Give the tool cores of its own, or a lower rate."),
        [Query(quantile(share, "loadtest_pacer_lateness_seconds"), name) for share, name in SHARES], "s", empty=NO_RUN)


def distribution():
    expression = f"sum by (le) (increase({series(CLIENT + '_bucket', INTENDED)}[$__rate_interval]))"
    return heatmap(
        "Due to read",
        says("Receptions by how long after their send was due they came; the darker, the more.",
             "A second band above the first: some wait for something.",
             "Look at the same picture of the gateway in the overview.",
             "GatewayPushLatencyBudgetBurnFast"),
        Query(expression, "{{le}}", form="heatmap"), "s", empty=NO_RUN)


def numbers():
    wrong = (("loadtest_missing_total", 'announced="no"', "missing", "nothing is to be lost in silence"),
             ("loadtest_duplicates_total", "", "twice", "nothing is to come twice"),
             ("loadtest_order_violations_total", "", "out of order", "nothing is to come in the wrong order"))
    return lines(
        "Sent and received",
        says("Sends by what the gateway answered, receptions, and what was wrong with them, a second.",
             "Sent below offered: the gateway refuses, or does not keep up.",
             "`unknown` is a send without an answer; see the connections of the overview."),
        [Query(f"sum({series('loadtest_offered_rate')})", "offered"),
         Query(rate("loadtest_sent_total", by="result"), "sent: {{result}}"),
         Query(rate("loadtest_received_total"), "received"),
         Query(rate("loadtest_missing_total", 'announced="yes"'), "announced as missing"),
         *(Query(rate(metric, labels), name, at_rest=reason) for metric, labels, name, reason in wrong)],
        "ops", width=12, empty=NO_RUN,
        overrides=[dashed("/^offered$/"), color("sent: accepted", "green"), color("sent: refused", "orange"),
                   color("received", "blue"), color("announced as missing", "yellow"),
                   *(color(name, "red") for _, _, name, _ in wrong)])


def gateway():
    busy = (f"rate({series('process_cpu_seconds_total')}[$__rate_interval]) "
            f"and on (job, instance) {series('gateway_build_info')}")
    return [
        lines("Processor of the gateway",
              says("Cores that the gateway kept busy, with or without a load test.",
                   "As many as there are: what is measured is the machine.",
                   "Read the knee of a `ramp` as this machine's."),
              [Query(f"sum by (instance) ({busy})", "{{instance}}")], "short", width=6),
        lines("Processor for each push",
              says("Processor time of the gateway for each notification written, sends, acks and the rest included.",
                   "A rise at an even rate: something costs more than before.",
                   "Compare two runs of the same scenario on the same machine."),
              [Query(f"sum({busy}) / ({rate(SERVER + '_count', WRITTEN)} > 0)", "for each push")], "s", width=6,
              empty="no pushes"),
        lines("Memory of the gateway",
              says("Resident memory of the gateway.",
                   "A rise that does not end while the load is even.",
                   "Let `soak` run for hours: its verdict has a gate on it."),
              [Query(f"sum by (instance) ({process('process_resident_memory_bytes')})", "{{instance}}")], "bytes", width=6),
        lines("Sessions of the gateway",
              says("Open sessions as the gateway counts them, beside the tool's sockets.",
                   "Fewer than sockets: the gateway has closed some that the tool still holds.",
                   "See *Closed, by code* of the overview.",
                   "GatewayConnectionChurn"),
              [Query(f"sum({series('gateway_sessions')})", "gateway"),
               Query(f"sum({series('loadtest_users')})", "sockets of the load test")], "short", width=6),
    ]


def runs():
    told = "loadtest_run_info"
    # A step of one second: a verdict is there from the end of a run to the scrape that fetched it, no longer.
    verdict = (f"last_over_time(({series('loadtest_verdict')} * on (job, instance) group_left (run, scenario, target) "
               f"{series(told)})[$__range:1s])")
    moment = f"(timestamp({series(told)}) * 1000)[$__range:1s]"
    kept = "run, scenario, target"
    return table(
        "Runs in the time shown",
        says("Every run that Prometheus saw in the time shown: begin, end, and its verdict.",
             "A run that was killed has no verdict.",
             "Set the time of this page to a run's to see what it did."),
        [Query(f"min by ({kept}) (min_over_time({moment}))", instant=True, form="table"),
         Query(f"max by ({kept}) (max_over_time({moment}))", instant=True, form="table"),
         Query(f"max by ({kept}) ({verdict})", instant=True, form="table", at_rest="0 is a run that passed")],
        empty=NO_RUN,
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {
                "excludeByName": {"Time": True},
                "indexByName": {"run": 0, "scenario": 1, "target": 2, "Value #A": 3, "Value #B": 4, "Value #C": 5},
                "renameByName": {"Value #A": "first seen", "Value #B": "last seen", "Value #C": "verdict"},
            }},
        ],
        overrides=[
            override("first seen", {"id": "unit", "value": "dateTimeAsLocal"}),
            override("last seen", {"id": "unit", "value": "dateTimeAsLocal"}),
            override("verdict", {"id": "mappings", "value": verdict_mappings()},
                     {"id": "custom.cellOptions", "value": {"type": "color-text"}}),
        ])
