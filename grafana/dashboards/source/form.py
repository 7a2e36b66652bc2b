"""Rules about how a dashboard and its panels look. Each takes the evidence and yields what is wrong."""

import re

from page import COLUMNS, SCHEMA_VERSION
from panels import NEUTRAL, RUNBOOK

# Of Grafana 13's units those that are used. A name that it does not know would be printed behind the number.
UNITS = {"none", "short", "s", "bytes", "Bps", "ops", "reqps", "percentunit", "dateTimeAsLocal", "locale",
         "suffix:×", "suffix:× reserve"}
KINDS = {"row", "stat", "timeseries", "heatmap", "bargauge", "table"}
VARIABLES = {"job": "Job", "instance": "Instance"}


def panels(dashboard, rows=False):
    """Every panel of a dashboard, those inside collapsed rows, too."""
    for panel in dashboard["panels"]:
        if panel["type"] != "row" or rows:
            yield panel
        yield from panel.get("panels", [])


def named(evidence, rows=False):
    """Pairs of every panel and how to call it in a complaint."""
    for file, dashboard in evidence.dashboards.items():
        for panel in panels(dashboard, rows):
            yield panel, f"{file}: {panel.get('title') or panel['id']}"


def asks_prometheus(panel):
    """Whether its data source is the one that is chosen at the top."""
    return panel["datasource"]["uid"] == "${datasource}"


def is_as_generated(evidence):
    for file in evidence.committed.keys() | evidence.generated.keys():
        if evidence.committed.get(file) != evidence.generated.get(file):
            yield f"{file} is not what generate writes: run grafana/dashboards/generate"


def has_a_head(evidence):
    uids = [dashboard["uid"] for dashboard in evidence.dashboards.values()]
    if len(set(uids)) != len(uids):
        yield "two dashboards have the same uid"
    wanted = {"id": None, "editable": False, "schemaVersion": SCHEMA_VERSION, "graphTooltip": 1, "refresh": "5s",
              "time": {"from": "now-15m", "to": "now"}}
    for file, dashboard in evidence.dashboards.items():
        for key, value in wanted.items():
            if dashboard.get(key) != value:
                yield f"{file}: {key} is not {value}"
        if not dashboard["description"]:
            yield f"{file} does not say what it is for"
        linked = {link["url"].removeprefix("/d/") for link in dashboard["links"]}
        if linked != set(uids) - {dashboard["uid"]}:
            yield f"{file} does not link to the others"


def ids_are_unique(evidence):
    for file, dashboard in evidence.dashboards.items():
        every = [panel["id"] for panel in panels(dashboard, rows=True)]
        if len(set(every)) != len(every) or not all(isinstance(number, int) and number > 0 for number in every):
            yield f"{file}: panels share an id, or have none"
    for panel, name in named(evidence):
        letters = [target["refId"] for target in panel["targets"]]
        if len(set(letters)) != len(letters) or not all(letters):
            yield f"{name}: queries share a refId, or have none"
        if not letters:
            yield f"{name}: no query"


def grid_has_no_overlap(evidence):
    for file, dashboard in evidence.dashboards.items():
        taken = {}
        for panel in panels(dashboard, rows=True):
            place = panel["gridPos"]
            if place["w"] < 1 or place["h"] < 1 or place["x"] < 0 or place["x"] + place["w"] > COLUMNS:
                yield f"{file}: {panel['title']} lies outside the {COLUMNS} columns"
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    other = taken.setdefault((x, y), panel["title"])
                    if other is not panel["title"]:
                        yield f"{file}: {panel['title']} lies on {other}"
                        return


def lines_are_full(evidence):
    for file, dashboard in evidence.dashboards.items():
        widths = {}
        for panel in panels(dashboard, rows=True):
            place = panel["gridPos"]
            widths[place["y"]] = widths.get(place["y"], 0) + place["w"]
        for y, width in widths.items():
            if width != COLUMNS:
                yield f"{file}: the panels at height {y} are {width} columns wide"


def says_what_it_is(evidence):
    for file, dashboard in evidence.dashboards.items():
        titles = [panel["title"] for panel in panels(dashboard)]
        for title in titles:
            if not title or titles.count(title) > 1:
                yield f"{file}: the title {title!r} is empty or there twice"
    for panel, name in named(evidence):
        if panel["type"] not in KINDS:
            yield f"{name}: a {panel['type']} is nothing that was thought about"
        told = panel.get("description", "").split("\n\nRunbook: ")[0]
        # What it means, what is bad, what to do.
        if len(re.findall(r"[.](?= |$)", told)) < 3:
            yield f"{name}: fewer than three sentences"


def has_a_unit(evidence):
    for panel, name in named(evidence):
        defaults = panel["fieldConfig"]["defaults"]
        units = [defaults.get("unit")] + [
            one["value"] for override in panel["fieldConfig"]["overrides"] for one in override["properties"]
            if one["id"] == "unit"]
        for unit in units:
            if unit not in UNITS:
                yield f"{name}: the unit {unit!r}"
        if not defaults.get("noValue"):
            yield f"{name}: says nothing where there is no data"


def axes_hold_what_is_drawn(evidence):
    for panel, name in named(evidence):
        defaults, overrides = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["overrides"]
        downwards = any(one == {"id": "custom.transform", "value": "negative-Y"}
                        for override in overrides for one in override["properties"])
        if downwards and "min" in defaults:
            yield f"{name}: a series is drawn downwards from 0, below the end of the axis"


def shows_last_and_largest(evidence):
    for panel, name in named(evidence):
        if panel["type"] == "timeseries":
            legend = panel["options"]["legend"]
            if legend["displayMode"] != "table" or legend["calcs"] != ["lastNotNull", "max"]:
                yield f"{name}: no legend with the last and the largest value"


def tiles_are_of_now(evidence):
    for panel, name in named(evidence):
        if panel["type"] in ("stat", "bargauge") and not all(target["instant"] for target in panel["targets"]):
            yield f"{name}: would go on showing the last value of a gateway that is gone"


def nothing_is_not_green(evidence):
    for panel, name in named(evidence):
        if panel["type"] == "stat":
            colors = [mapping["options"]["result"]["color"] for mapping in panel["fieldConfig"]["defaults"]["mappings"]
                      if mapping["type"] == "special" and mapping["options"]["match"] == "null"]
            if colors != [NEUTRAL]:
                yield f"{name}: where nothing is, it has the colour of its lowest threshold"


def variables_are_complete(evidence):
    for file, dashboard in evidence.dashboards.items():
        variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
        source = variables.get("datasource", {})
        if (source.get("type"), source.get("label"), source.get("query")) != ("datasource", "Data source", "prometheus"):
            yield f"{file}: no variable for the data source"
        for name, label in VARIABLES.items():
            if variables.get(name, {}).get("label") != label:
                yield f"{file}: no variable {name}"
        for name, variable in variables.items():
            wanted = {"type": "query", "refresh": 2, "multi": True, "includeAll": True, "allValue": ".+"}
            wrong = [key for key, value in wanted.items() if variable.get(key) != value]
            if name != "datasource" and (wrong or variable["datasource"]["uid"] != "${datasource}"):
                yield f"{file}: the variable {name}: {wrong or 'datasource'}"


def panels_named_in_texts_exist(evidence):
    known = {panel["title"] for panel, _ in named(evidence, rows=True)}
    # The file that is spoken of has a section of this name.
    known.add("Disk space")
    # Lines of a panel that is spoken of by its title, in the same sentence or the one before.
    legends = {target.get("legendFormat") for panel, _ in named(evidence) for target in panel["targets"]}
    for panel, name in named(evidence):
        told = panel["description"].split("\n\n")[0]
        for words in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*", told):
            if words not in known | legends:
                yield f"{name}: there is no panel {words!r}"


def alerts_named_in_texts(panel):
    """The anchors in the runbook that a panel's description names."""
    return re.findall(re.escape(RUNBOOK) + r"([\w-]+)", panel.get("description", ""))


RULES = (is_as_generated, has_a_head, ids_are_unique, grid_has_no_overlap, lines_are_full, says_what_it_is, has_a_unit,
         axes_hold_what_is_drawn, shows_last_and_largest, tiles_are_of_now, nothing_is_not_green, variables_are_complete,
         panels_named_in_texts_exist)
