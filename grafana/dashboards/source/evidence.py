"""Everything that the dashboards are held against: the committed files, the rules of Prometheus, the runbook, the
provisioning, and the metrics that are exported."""

import json
import math
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from promql import selectors
from written import texts

DASHBOARDS = Path(__file__).resolve().parent.parent
GRAFANA = DASHBOARDS.parent


@dataclass
class Evidence:
    """What the rules look at. A mutation changes a copy of it."""

    committed: dict      # file name to text
    generated: dict      # file name to text
    dashboards: dict     # file name to what its text says
    alerts: dict         # name to the numbers that it compares with
    recorded: set        # names of recording rules
    anchors: set         # of the headings of grafana/README.md
    datasources: list
    providers: list
    metrics: dict        # family to its type; None if no metrics were given
    helps: dict          # family to its help text; None if no metrics were given


def gather(metrics):
    """Reads it all. `metrics` are files or http:// addresses."""
    committed = {path.name: path.read_text() for path in sorted(DASHBOARDS.glob("*.json"))}
    alerts, recorded = rules()
    exported = "\n".join(map(fetched, metrics))
    return Evidence(
        committed=committed, generated=texts(), dashboards={name: json.loads(text) for name, text in committed.items()},
        alerts=alerts, recorded=recorded, anchors=anchors((GRAFANA / "README.md").read_text()),
        datasources=provisioned("datasources", "datasources"), providers=provisioned("dashboards", "providers"),
        metrics=families(exported) if metrics else None, helps=helps(exported) if metrics else None,
    )


def provisioned(directory, key):
    """The entries of all files of a directory of grafana/provisioning."""
    found = []
    for path in sorted((GRAFANA / "provisioning" / directory).glob("*.yml")):
        found += yaml.safe_load(path.read_text())[key]
    return found


def rules():
    """Alerts with their numbers, and the names of what is recorded."""
    every = [rule for path in sorted((GRAFANA / "prometheus" / "rules").glob("*.yml"))
             for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    recorded = {rule["record"]: rule["expr"] for rule in every if "record" in rule}
    alerts = {rule["alert"]: numbers(rule["expr"], recorded) for rule in every if "alert" in rule}
    return alerts, set(recorded)


def numbers(expression, recorded):
    """What an alert compares with: `> 14.4 * 0.01` are 0.144 and the objective, 0.01; and the edges of buckets in what it
    is recorded from."""
    found = set()
    for product in re.findall(r"[<>=!]=?\s*(\d[\d.]*(?:\s*\*\s*\d[\d.]*)*)", expression):
        factors = [float(factor) for factor in product.split("*")]
        found |= {math.prod(factors), factors[-1]}
    for selector in selectors(expression):
        for edge in re.findall(r'le="([\d.]+)"', recorded.get(selector.metric, "")):
            found.add(float(edge))
    return found


def anchors(markdown):
    """The anchors of a text's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fetched(where):
    """A text with metrics."""
    if where.startswith("http://"):
        with urllib.request.urlopen(where, timeout=10) as answer:
            return answer.read().decode()
    return Path(where).read_text()


def families(text):
    """The families of a text with metrics, and their types."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def helps(text):
    """The families of a text with metrics, and their help texts."""
    return dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
