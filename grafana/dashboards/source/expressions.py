"""Rules about what the dashboards ask Prometheus. Each takes the evidence and yields what is wrong."""

from form import asks_prometheus, named
from promql import AGGREGATIONS, NotReadable, of_variable, selectors
from queries import SAME_ON_EVERY_NODE

# Prometheus makes these itself.
MADE_BY_PROMETHEUS = {"up", "ALERTS"}
RATES = {"rate", "irate"}
COUNTING = RATES | {"increase"}
# What is exported and is on no panel, with the reason.
NOT_SHOWN = {
    "process_virtual_memory_bytes": "address space that is reserved and never touched costs nothing",
}


def asked(evidence):
    """Triples of a selector, the expression and how to call it in a complaint, of panels only."""
    for panel, name in named(evidence):
        if asks_prometheus(panel):
            for target in panel["targets"]:
                yield from read(target["expr"], f"{name} ({target['refId']})")


def annotated(evidence):
    """The same of annotations."""
    for file, dashboard in evidence.dashboards.items():
        for annotation in dashboard["annotations"]["list"]:
            yield from read(annotation["target"]["expr"], f"{file}: {annotation['name']}")


def chosen(evidence):
    """The same of variables."""
    for file, dashboard in evidence.dashboards.items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                selector, _ = of_variable(variable["query"]["query"])
                yield selector, variable["query"]["query"], f"{file}: ${variable['name']}"


def read(expression, name):
    for selector in selectors(expression):
        yield selector, expression, name


def is_readable(evidence):
    try:
        if not all(list(everything(evidence)) for everything in (asked, annotated, chosen)):
            yield "there are no panels, annotations or variables"
    except NotReadable as reason:
        yield str(reason)


def windows_follow_the_page(evidence):
    for selector, _, name in asked(evidence):
        inner = selector.functions[-1] if selector.functions else ""
        if inner in RATES and selector.window != "$__rate_interval":
            yield f"{name}: {inner}({selector.metric}[{selector.window}]) instead of [$__rate_interval]"
        if inner == "increase" and selector.window not in ("$__rate_interval", "$__range"):
            yield f"{name}: increase({selector.metric}[{selector.window}])"


def selectors_take_what_was_chosen(evidence):
    for selector, _, name in [*asked(evidence), *annotated(evidence)]:
        of_load_test = selector.metric.startswith("loadtest_")
        if of_load_test and "Load tests" in name and not selector.labels:
            # The annotation shows load tests of any job: there is no variable for them on the other pages.
            continue
        prefix = "loadtest_" if of_load_test else ""
        # An alert about an absent target has no instance.
        wanted = {"job": ("=~", f"${prefix}job"),
                  "instance": ("=~", f"${prefix}instance" + ("|" if selector.metric == "ALERTS" else ""))}
        for label, matcher in wanted.items():
            if selector.labels.get(label) != matcher:
                yield f"{name}: {selector.metric} without {label}{matcher[0]}\"{matcher[1]}\""


def counters_are_rates(evidence):
    for selector, _, name in asked(evidence):
        counts = selector.metric.endswith(("_total", "_bucket", "_count", "_sum"))
        if counts and not (selector.window and set(selector.functions[-1:]) <= COUNTING):
            yield f"{name}: {selector.metric} outside rate(), irate() or increase()"


def what_is_the_same_is_not_added(evidence):
    for selector, _, name in asked(evidence):
        outermost = next((function for function in selector.functions if function in AGGREGATIONS), "")
        if selector.metric in SAME_ON_EVERY_NODE and outermost not in ("max", "min"):
            yield f"{name}: {selector.metric} is the same on every node that shares a log, and is added up"


def help_says_what_is_the_same(evidence):
    if evidence.metrics is None:
        return
    told = {family for family, text in evidence.helps.items() if "the same on every node" in text}
    for family in told ^ SAME_ON_EVERY_NODE:
        yield f"{family}: its help text and SAME_ON_EVERY_NODE do not agree on whether it is the same on every node"


def quantiles_keep_le(evidence):
    for panel, name in named(evidence):
        for target in panel["targets"]:
            expression = target.get("expr", "")
            buckets = [selector for selector in (selectors(expression) if expression else [])
                       if selector.metric.endswith("_bucket")]
            quantiles = expression.count("histogram_quantile(")
            if buckets and expression.count("sum by (le") < max(quantiles, 1):
                yield f"{name}: buckets are added without their edges"
            # NaN, where nothing was observed, is not a number that a panel should show.
            if quantiles and not expression.endswith(">= 0"):
                yield f"{name}: a quantile of nothing is shown"


def metrics_exist(evidence):
    if evidence.metrics is None:
        return
    known = series_names(evidence.metrics) | evidence.recorded | MADE_BY_PROMETHEUS
    for selector, _, name in [*asked(evidence), *annotated(evidence), *chosen(evidence)]:
        if selector.metric not in known:
            yield f"{name}: {selector.metric} is not exported"


def series_names(families):
    """The names of the series of these families."""
    names = set()
    for family, kind in families.items():
        names |= {family + suffix for suffix in ("_bucket", "_sum", "_count")} if kind == "histogram" else {family}
    return names


def metrics_are_shown(evidence):
    if evidence.metrics is None:
        return
    shown = {selector.metric for selector, _, _ in asked(evidence)}
    for family in evidence.metrics:
        on_a_panel = bool(shown & series_names({family: evidence.metrics[family]}))
        if not on_a_panel and family not in NOT_SHOWN:
            yield f"{family} is on no panel, and NOT_SHOWN does not say why"
        if on_a_panel and family in NOT_SHOWN:
            yield f"{family} is on a panel, and NOT_SHOWN says it is not"
    for family in NOT_SHOWN.keys() - evidence.metrics.keys():
        yield f"{family} is in NOT_SHOWN and nobody exports it"


RULES = (is_readable, windows_follow_the_page, selectors_take_what_was_chosen, counters_are_rates,
         what_is_the_same_is_not_added, help_says_what_is_the_same, quantiles_keep_le, metrics_exist, metrics_are_shown)
