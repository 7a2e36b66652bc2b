"""Rules about what the dashboards point to: alerts, the runbook, data sources, their provisioning."""

import math

from form import alerts_named_in_texts, asks_prometheus, named, panels

# Where docker-compose.yml mounts the dashboards.
MOUNTED_AT = "/etc/grafana/dashboards"
ANNOTATIONS = {"Starts", "Load tests", "Firing alerts"}


def thresholds_are_those_of_alerts(evidence):
    numbers = {alert.lower(): found for alert, found in evidence.alerts.items()}
    for panel, name in named(evidence):
        allowed = set().union(*(numbers.get(anchor, set()) for anchor in alerts_named_in_texts(panel)))
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        for step in steps:
            value = step["value"]
            if value is not None and not any(math.isclose(value, number) for number in allowed):
                yield f"{name}: {value} is no number of an alert that its description names"


def runbook_has_the_entries(evidence):
    for panel, name in named(evidence):
        for anchor in alerts_named_in_texts(panel):
            if anchor not in evidence.anchors:
                yield f"{name}: the runbook has no entry {anchor}"


def every_alert_has_a_panel(evidence):
    pointed_to = {anchor for panel, _ in named(evidence) for anchor in alerts_named_in_texts(panel)}
    for alert in evidence.alerts:
        if alert.lower() not in pointed_to:
            yield f"no panel shows what {alert} is about"


def data_sources_are_provisioned(evidence):
    known = {source["uid"]: source["type"] for source in evidence.datasources}
    for file, dashboard in evidence.dashboards.items():
        variable = dashboard["templating"]["list"][0]
        current = variable["current"]["value"]
        if known.get(current) != variable["query"]:
            yield f"{file}: the data source {current} is not provisioned"
        inside = [annotation["datasource"] for annotation in dashboard["annotations"]["list"]]
        for panel in panels(dashboard):
            inside += [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            if any(target["datasource"] != panel["datasource"] for target in panel["targets"]):
                yield f"{file}: {panel['title']} asks another data source than it says"
        for source in inside:
            if source != {"type": "prometheus", "uid": "${datasource}"} and known.get(source["uid"]) != source["type"]:
                yield f"{file}: {source} is not provisioned"


def provisioning_is_whole(evidence):
    sources = {source["uid"]: source for source in evidence.datasources}
    if len(sources) != len(evidence.datasources):
        yield "two data sources have the same uid"
    if [source["uid"] for source in evidence.datasources if source.get("isDefault")] != ["prometheus"]:
        yield "Prometheus is not the default data source"
    data = sources.get("prometheus", {}).get("jsonData", {})
    # Without it Grafana takes a scrape every 15 s for granted, and $__rate_interval is a minute.
    if data.get("timeInterval") != "5s":
        yield "the data source does not say how often is scraped"
    destinations = data.get("exemplarTraceIdDestinations", [])
    if {one["name"] for one in destinations} != {"trace_id"} or not all(one.get("urlDisplayLabel") for one in destinations):
        yield "exemplars have a link without a label, or by another name than trace_id"
    if [one["datasourceUid"] in sources for one in destinations if "datasourceUid" in one] != [True]:
        yield "exemplars do not lead to the trace store"
    # Provisioning puts settings of the environment in for what stands behind a single dollar.
    if [one["url"].endswith("/trace/$${__value.raw}") for one in destinations if "url" in one] != [True]:
        yield "exemplars do not lead to the trace store's own page"
    wanted = {"type": "file", "allowUiUpdates": False, "disableDeletion": True}
    for provider in evidence.providers:
        if any(provider.get(key) != value for key, value in wanted.items()):
            yield f"the provider {provider['name']} does not have {wanted}"
        if provider["options"]["path"] != MOUNTED_AT:
            yield f"the provider {provider['name']} reads {provider['options']['path']}"
    if not evidence.providers:
        yield "no provider of dashboards"


def annotations_tell_what_happened(evidence):
    for file, dashboard in evidence.dashboards.items():
        found = {annotation["name"] for annotation in dashboard["annotations"]["list"]
                 if annotation["enable"] and annotation["target"]["expr"] and annotation["titleFormat"]}
        if found != ANNOTATIONS:
            yield f"{file}: annotations {sorted(found)}"


def exemplars_are_asked_for(evidence):
    with_exemplars = [target["expr"] for panel, _ in named(evidence) if asks_prometheus(panel)
                      for target in panel["targets"] if target["exemplar"]]
    if not with_exemplars:
        yield "no panel asks for exemplars"
    for expression in with_exemplars:
        if "gateway_push_latency_seconds_bucket" not in expression:
            yield f"only push latency has exemplars: {expression}"


RULES = (thresholds_are_those_of_alerts, runbook_has_the_entries, every_alert_has_a_panel, data_sources_are_provisioned,
         provisioning_is_whole, annotations_tell_what_happened, exemplars_are_asked_for)
