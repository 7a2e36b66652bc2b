"""A dashboard around its panels: where they stand, the variables at the top, the annotations, the links."""

from dataclasses import dataclass

from panels import JAEGER, PROMETHEUS, Query

SCHEMA_VERSION = 42
COLUMNS = 24
PAGES = {"gw-overview": "Gateway overview", "gw-loadtest": "Load test", "gw-traces": "Traces"}


@dataclass
class Section:
    """A row's title and, below it, lines of panels of one height each: pairs of the height and the panels."""

    title: str
    lines: list
    repeat: str = ""
    collapsed: bool = False


def dashboard(uid, description, sections, *, load_test=False):
    """The whole JSON, and what the live test expects of each expression: (panel's title, refId) to its Query."""
    expected = {}
    return {
        "id": None, "uid": uid, "title": PAGES[uid], "description": description, "tags": ["gateway"],
        "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": False, "graphTooltip": 1, "fiscalYearStartMonth": 0,
        "liveNow": False, "preload": False, "weekStart": "", "style": "dark",
        "refresh": "5s", "time": {"from": "now-15m", "to": "now"}, "timezone": "browser",
        "timepicker": {"refresh_intervals": ["1s", "5s", "10s", "30s", "1m", "5m", "15m"]},
        "links": [link(other) for other in PAGES if other != uid],
        "templating": {"list": variables(load_test)},
        "annotations": {"list": annotations()},
        "panels": placed(sections, expected),
    }, expected


def link(uid):
    """To another page, with the same time and the same choice of gateways."""
    return {
        "type": "link", "title": PAGES[uid], "tooltip": "", "icon": "dashboard", "url": f"/d/{uid}", "tags": [],
        "asDropdown": False, "includeVars": True, "keepTime": True, "targetBlank": False,
    }


def variables(load_test):
    """The data source, the gateway's job and instances; where a load test is shown, its own, too."""
    source = {
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "regex": "",
        "current": {"text": "Prometheus", "value": "prometheus"}, "hide": 0, "refresh": 1, "options": [],
        "multi": False, "includeAll": False, "skipUrlSync": False,
    }
    # What the gateways' job is called in the configuration and in the alerts: the choice "All" would be as good, unless
    # other jobs have metrics of these names.
    job = from_labels("job", "Job", "label_values(gateway_build_info, job)",
                      {"text": ["gateway"], "value": ["gateway"]})
    instance = from_labels("instance", "Instance", 'label_values(gateway_build_info{job=~"$job"}, instance)')
    found = [source, job, instance]
    if load_test:
        found += [
            from_labels("loadtest_job", "Load test job", "label_values(loadtest_run_info, job)"),
            from_labels("loadtest_instance", "Load test instance",
                        'label_values(loadtest_run_info{job=~"$loadtest_job"}, instance)'),
        ]
    return found


def from_labels(name, label, query, current=None):
    """A variable with the values that a label has in the time that the page shows."""
    return {
        "type": "query", "name": name, "label": label, "datasource": PROMETHEUS, "definition": query,
        "query": {"qryType": 1, "query": query, "refId": f"Variable-{name}"}, "regex": "", "sort": 1,
        # 2: when the time changes. A page that was left open would else never learn of a new instance.
        "refresh": 2, "multi": True, "includeAll": True, "allValue": ".+", "hide": 0, "options": [],
        "current": current or {"text": ["All"], "value": ["$__all"]}, "skipUrlSync": False,
    }


def annotations():
    """What happened, from Prometheus alone: nothing has to be told to Grafana, and no key is needed."""
    selected = 'job=~"$job",instance=~"$instance"'
    return [
        annotation("Starts", "blue", "Started", "{{instance}}", "instance",
                   # The time at which the process started, in milliseconds, is where the mark stands: in a page of
                   # days, too, where a window of seconds would fall between two steps.
                   f"process_start_time_seconds{{{selected}}} * 1000 "
                   f"and on (job, instance) gateway_build_info{{{selected}}}", value_is_time=True),
        annotation("Load tests", "purple", "Load test: {{scenario}}", "{{run}} against {{target}}", "scenario",
                   "loadtest_run_info"),
        annotation("Firing alerts", "red", "{{alertname}}", "{{severity}} {{instance}}", "severity",
                   # An alert about an absent target has no instance.
                   'ALERTS{alertstate="firing",alertname=~"Gateway.+",job=~"$job",instance=~"$instance|"}'),
    ]


def annotation(name, icon_color, title, text, tags, expression, value_is_time=False):
    """Marks or, while it goes on, a region."""
    return {
        "name": name, "enable": True, "hide": False, "iconColor": icon_color, "datasource": PROMETHEUS,
        "target": {"expr": expression, "interval": "15s", "refId": "Anno"},
        "titleFormat": title, "textFormat": text, "tagKeys": tags, "useValueForTime": value_is_time,
    }


def placed(sections, expected):
    """The panels in their places: lines of panels from left to right, each as high as its line says."""
    found = []
    numbers = iter(range(1, 10_000))
    top = 0
    for section in sections:
        row = {
            "id": next(numbers), "type": "row", "title": section.title, "collapsed": section.collapsed, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        if section.repeat:
            row |= {"repeat": section.repeat, "repeatDirection": "h"}
        found.append(row)
        top += 1
        # What a collapsed row hides is kept inside it.
        inside = row["panels"] if section.collapsed else found
        for height, panels in section.lines:
            left = 0
            for panel in panels:
                place = {"x": left, "y": top, "w": panel.width, "h": height}
                inside.append(as_json(panel, next(numbers), place, expected))
                left += panel.width
            top += height
    return found


def as_json(panel, number, place, expected):
    """A panel in its place. Queries get the letters A, B, C in turn."""
    targets = []
    for letter, query in zip("ABCDEFGHIJKL", panel.queries):
        if isinstance(query, Query):
            expected[panel.title, letter] = query
            targets.append({
                "refId": letter, "datasource": panel.datasource, "editorMode": "code", "expr": query.expression,
                "legendFormat": query.legend or "__auto", "format": query.form, "instant": query.instant,
                "range": not query.instant, "exemplar": query.exemplars,
            })
        else:
            targets.append({"refId": letter, "datasource": JAEGER, **query})
    return {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.description,
        "datasource": panel.datasource, "gridPos": place, "targets": targets, **panel.settings,
    }
