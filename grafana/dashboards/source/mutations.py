"""Breaks the dashboards on purpose, in one way for each thing that a rule looks for: a rule that does not complain is no
rule. Each mutation changes a copy of the evidence and names the rule that has to notice."""

import copy

import closure
import expressions
import form
from form import panels

RULES = (*form.RULES, *expressions.RULES, *closure.RULES)


def problems(evidence):
    """Every complaint, with the rule that made it."""
    return [(rule, problem) for rule in RULES for problem in rule(evidence)]


def unnoticed(evidence):
    """The mutations that their rule does not notice, and the rules that no mutation is for."""
    for name, (rule, change, needs_metrics) in MUTATIONS.items():
        if needs_metrics and evidence.metrics is None:
            continue
        changed = copy.deepcopy(evidence)
        change(changed)
        try:
            noticed = any(rule(changed))
        except Exception as failure:  # a rule that cannot cope would end the check without saying where
            noticed = False
            name = f"{name} ({type(failure).__name__}: {failure})"
        if not noticed:
            yield f"{rule.__name__} does not notice: {name}"
    for rule in RULES:
        if rule not in {other for other, _, _ in MUTATIONS.values()}:
            yield f"no mutation is for {rule.__name__}"


MUTATIONS = {}


def mutation(rule, needs_metrics=False):
    """Registers a change of the overview, or of the whole evidence, that this rule has to notice."""
    def register(change):
        MUTATIONS[change.__name__.replace("_", " ")] = (rule, change, needs_metrics)
        return change
    return register


def of_panel(rule, name, change, title="Fill of the fullest mailbox", needs_metrics=False):
    """Registers a change of one panel of the overview."""
    def apply(evidence):
        change(panel(evidence, title))
    MUTATIONS[name] = (rule, apply, needs_metrics)


def of_expression(rule, name, before, after, title, needs_metrics=False):
    """Registers a change of the text of a panel's first expression."""
    def change(found):
        target = found["targets"][0]
        if before not in target["expr"]:
            raise LookupError(f"{before} is not in {target['expr']}")
        target["expr"] = target["expr"].replace(before, after, 1)
    of_panel(rule, name, change, title, needs_metrics)


def overview(evidence):
    return evidence.dashboards["overview.json"]


def panel(evidence, title):
    """The panel of this title, on whichever dashboard it is."""
    return next(found for dashboard in evidence.dashboards.values() for found in panels(dashboard, rows=True)
                if found["title"] == title)


@mutation(form.is_as_generated)
def a_character_changed_by_hand(evidence):
    evidence.committed["overview.json"] += " "


@mutation(form.is_as_generated)
def a_dashboard_that_nobody_generates(evidence):
    evidence.committed["mine.json"] = "{}"


@mutation(form.has_a_head)
def editable_in_the_browser(evidence):
    overview(evidence)["editable"] = True


@mutation(form.has_a_head)
def two_dashboards_with_one_uid(evidence):
    overview(evidence)["uid"] = "gw-traces"


@mutation(form.has_a_head)
def a_link_to_nowhere(evidence):
    overview(evidence)["links"][0]["url"] = "/d/gw-nothing"


@mutation(form.ids_are_unique)
def two_panels_with_one_id(evidence):
    first, second, *_ = panels(overview(evidence))
    second["id"] = first["id"]


@mutation(form.variables_are_complete)
def a_variable_that_is_not_loaded_anew(evidence):
    overview(evidence)["templating"]["list"][1]["refresh"] = 1


@mutation(form.variables_are_complete)
def no_variable_for_the_instance(evidence):
    del overview(evidence)["templating"]["list"][2]


@mutation(expressions.metrics_exist, needs_metrics=True)
def a_variable_over_a_misspelt_metric(evidence):
    overview(evidence)["templating"]["list"][1]["query"]["query"] = "label_values(gateway_build_inf, job)"


@mutation(expressions.metrics_exist, needs_metrics=True)
def an_annotation_about_a_misspelt_metric(evidence):
    overview(evidence)["annotations"]["list"][1]["target"]["expr"] = "loadtest_run_inf"


@mutation(expressions.metrics_are_shown, needs_metrics=True)
def a_new_metric_without_a_panel(evidence):
    evidence.metrics["gateway_new_things_total"] = "counter"


@mutation(expressions.metrics_are_shown, needs_metrics=True)
def a_reason_for_a_metric_that_is_gone(evidence):
    del evidence.metrics["process_virtual_memory_bytes"]


@mutation(expressions.help_says_what_is_the_same, needs_metrics=True)
def a_help_text_that_forgets_the_other_nodes(evidence):
    evidence.helps["gateway_topics"] = "Topics with at least one subscriber."


@mutation(closure.thresholds_are_those_of_alerts)
def an_alert_with_another_number(evidence):
    evidence.alerts["GatewayMailboxSaturated"] = {0.9}


@mutation(closure.runbook_has_the_entries)
def a_runbook_without_an_entry(evidence):
    evidence.anchors.discard("gatewaymailboxsaturated")


@mutation(closure.every_alert_has_a_panel)
def an_alert_without_a_panel(evidence):
    evidence.alerts["GatewayHasFeelings"] = {1.0}


@mutation(closure.data_sources_are_provisioned)
def a_trace_store_under_another_uid(evidence):
    next(source for source in evidence.datasources if source["type"] == "jaeger")["uid"] = "tempo"


@mutation(closure.data_sources_are_provisioned)
def a_prometheus_under_another_uid(evidence):
    evidence.datasources[0]["uid"] = "other"


@mutation(closure.data_sources_are_provisioned)
def a_query_of_another_data_source(evidence):
    panel(evidence, "Threads")["targets"][0]["datasource"] = {"type": "jaeger", "uid": "jaeger"}


@mutation(closure.provisioning_is_whole)
def exemplars_that_lead_nowhere(evidence):
    evidence.datasources[0]["jsonData"]["exemplarTraceIdDestinations"][0]["datasourceUid"] = "tempo"


@mutation(closure.provisioning_is_whole)
def a_link_that_provisioning_would_spoil(evidence):
    link = evidence.datasources[0]["jsonData"]["exemplarTraceIdDestinations"][1]
    link["url"] = link["url"].replace("$$", "$")


@mutation(closure.provisioning_is_whole)
def a_link_without_a_label(evidence):
    del evidence.datasources[0]["jsonData"]["exemplarTraceIdDestinations"][1]["urlDisplayLabel"]


@mutation(closure.provisioning_is_whole)
def no_word_about_the_scrape_interval(evidence):
    del evidence.datasources[0]["jsonData"]["timeInterval"]


@mutation(closure.provisioning_is_whole)
def dashboards_read_from_elsewhere(evidence):
    evidence.providers[0]["options"]["path"] = "/var/lib/grafana/dashboards"


@mutation(closure.annotations_tell_what_happened)
def an_annotation_switched_off(evidence):
    overview(evidence)["annotations"]["list"][0]["enable"] = False


@mutation(closure.exemplars_are_asked_for)
def no_exemplars_at_all(evidence):
    for dashboard in evidence.dashboards.values():
        for found in panels(dashboard):
            for target in found["targets"]:
                target["exemplar"] = False


@mutation(closure.exemplars_are_asked_for)
def exemplars_of_what_has_none(evidence):
    panel(evidence, "Threads")["targets"][0]["exemplar"] = True


def same_letters(found):
    found["targets"].append(found["targets"][0])


def moved(**by):
    def change(found):
        for key, number in by.items():
            found["gridPos"][key] += number
    return change


def with_default(key, value):
    def change(found):
        found["fieldConfig"]["defaults"][key] = value
    return change


of_panel(form.axes_hold_what_is_drawn, "an axis that ends above a series",
         lambda found: found["fieldConfig"]["defaults"].update(min=0), "Bytes over WebSockets")
of_panel(form.ids_are_unique, "two queries with one refId", same_letters)
of_panel(form.ids_are_unique, "a panel without a query", lambda found: found["targets"].clear())
of_panel(form.grid_has_no_overlap, "a panel on another", moved(x=-1))
of_panel(form.grid_has_no_overlap, "a panel over the edge", moved(x=1))
of_panel(form.grid_has_no_overlap, "a panel in a collapsed row on another", moved(x=-1), "Sessions of this gateway")
of_panel(form.lines_are_full, "a hole in a line", moved(w=-1))
of_panel(form.says_what_it_is, "no title", lambda found: found.update(title=""))
of_panel(form.says_what_it_is, "a title that is there twice", lambda found: found.update(title="Pending"))
of_panel(form.says_what_it_is, "a description that does not say what to do",
         lambda found: found.update(description="It is full. That is bad."))
of_panel(form.says_what_it_is, "a kind of panel nobody thought about", lambda found: found.update(type="piechart"))
of_panel(form.has_a_unit, "no unit", with_default("unit", None))
of_panel(form.has_a_unit, "a unit that Grafana does not know", with_default("unit", "second"))
of_panel(form.has_a_unit, "nothing said where nothing is", with_default("noValue", ""))
of_panel(form.shows_last_and_largest, "a legend that is a list",
         lambda found: found["options"]["legend"].update(displayMode="list"))
of_panel(form.tiles_are_of_now, "a tile over time", lambda found: found["targets"][0].update(instant=False), "Push p99")
of_panel(form.nothing_is_not_green, "a tile that is green where nothing is", with_default("mappings", []), "Push p99")
of_panel(form.panels_named_in_texts_exist, "a hint to a panel that is gone",
         lambda found: found.update(description="It means. It is bad. Look at *Nothing of that name*."))
of_panel(closure.thresholds_are_those_of_alerts, "another threshold",
         with_default("thresholds", {"steps": [{"color": "green", "value": None}, {"color": "red", "value": 0.81}]}))
of_panel(closure.thresholds_are_those_of_alerts, "a threshold without its alert",
         lambda found: found.update(description="It means. It is bad. Do that."))
of_panel(closure.runbook_has_the_entries, "a runbook entry that is misspelt", lambda found: found.update(
    description=found["description"].replace("gatewaymailboxsaturated", "gatewaymailboxsatiated")))
of_expression(expressions.is_readable, "a parenthesis that is not closed", ")", "", "Pending")
of_expression(expressions.windows_follow_the_page, "a fixed window", "$__rate_interval", "5m", "Offered, by answer")
of_expression(expressions.windows_follow_the_page, "a window of one step", "$__rate_interval", "$__interval",
              "Offered, by answer")
of_expression(expressions.windows_follow_the_page, "an increase over a fixed window", "$__range", "1h", "Missing")
of_expression(expressions.selectors_take_what_was_chosen, "no instance", ',instance=~"$instance"', "", "Pending")
of_expression(expressions.selectors_take_what_was_chosen, "a fixed job", 'job=~"$job"', 'job="gateway"', "Pending")
of_expression(expressions.selectors_take_what_was_chosen, "the load test chosen as if it were a gateway", "$loadtest_job",
              "$job", "Missing")
of_expression(expressions.counters_are_rates, "a bare counter", "rate(", "sum(", "Offered, by answer")
of_expression(expressions.counters_are_rates, "a counter over time", "rate(", "max_over_time(", "Offered, by answer")
of_expression(expressions.counters_are_rates, "buckets that are not rates", "rate(", "last_over_time(", "Push p99")
of_expression(expressions.what_is_the_same_is_not_added, "a level of every node added up", "max(", "sum(", "Pending")
of_expression(expressions.what_is_the_same_is_not_added, "a rate of every node added up", "max by (priority)", "sum by (priority)",
              "Into mailboxes, by priority")
of_expression(expressions.quantiles_keep_le, "buckets added without their edges", "sum by (le)", "sum", "Push p99")
of_expression(expressions.quantiles_keep_le, "a quantile of nothing", " >= 0", "", "Push p99")
of_expression(expressions.metrics_exist, "a misspelt metric", "gateway_mailbox_depth", "gateway_mailbox_dept", "Pending", True)
of_expression(expressions.metrics_exist, "a recording rule that is not there", "rate1h", "rate2h", "Late pushes, 1 h", True)
