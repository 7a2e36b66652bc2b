"""Asks a Prometheus everything that the dashboards ask, and judges the answers."""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from form import asks_prometheus, named
from promql import of_variable, selectors
from stage import Failed

# Every job, every instance: what "All" stands for.
ALL = ".+"
STEP_SECONDS = 1


@dataclass(frozen=True)
class Question:
    """One expression of the dashboards, with the name by which to complain about it, and why it may be 0."""

    name: str
    expression: str
    instant: bool
    at_rest: str


def substituted(expression, values):
    """An expression with these values in place of variables."""
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression


@dataclass
class Prometheus:
    """Where it is, and the time that the questions are about."""

    address: str
    start: float
    end: float

    def ask(self, path, **parameters):
        """The data of an answer; an error of the query is one of the test."""
        encoded = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}?{encoded}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            raise ValueError(json.load(refusal).get("error", refusal.reason)) from refusal
        except urllib.error.URLError as gone:
            raise Failed(f"Prometheus does not answer any more: {gone.reason}") from gone

    def substituted(self, expression):
        """An expression as Grafana would send it, for a page that shows the time of the test."""
        values = {"$__rate_interval": "10s", "$__range": f"{math.ceil(self.end - self.start)}s",
                  "$loadtest_job": ALL, "$loadtest_instance": ALL, "$job": ALL, "$instance": ALL}
        return substituted(expression, values)

    def series(self, expression):
        """Every series that an expression had in the time of the test: its labels and its finite values."""
        found = self.ask("query_range", query=self.substituted(expression), start=self.start, end=self.end,
                         step=STEP_SECONDS)
        for series in found["result"]:
            numbers = [float(value) for _, value in series["values"]]
            yield series["metric"], [number for number in numbers if math.isfinite(number)]

    def values(self, expression):
        """The same values without their labels."""
        return [value for _, values in self.series(expression) for value in values]

    def now(self, expression):
        """Whether an instant query is answered: with something or with nothing, since the test is over by then."""
        return self.ask("query", query=self.substituted(expression), time=self.end)["resultType"]


def of_panels(dashboards, expected):
    """The questions of all panels; `expected` has (panel's title, refId) to Query for each file."""
    for file, dashboard in dashboards.items():
        evidence = type("Pages", (), {"dashboards": {file: dashboard}})
        for panel, name in named(evidence):
            if asks_prometheus(panel):
                for target in panel["targets"]:
                    query = expected[file][panel["title"], target["refId"]]
                    yield Question(f"{name} ({target['refId']})", target["expr"], target["instant"], query.at_rest)


def of_annotations(dashboards):
    """The questions of all annotations: each has something to tell of this test."""
    for file, dashboard in dashboards.items():
        for annotation in dashboard["annotations"]["list"]:
            yield Question(f"{file}: {annotation['name']}", annotation["target"]["expr"], False, "")


NOTHING = "no series with a finite value"


def answer(prometheus, question):
    """What is wrong with the answer to a question, or nothing."""
    try:
        if question.instant:
            prometheus.now(question.expression)
        values = prometheus.values(question.expression)
    except ValueError as error:
        return f"{question.name}: {error}"
    if not values:
        return f"{question.name}: {NOTHING}: {question.expression}"
    if not question.at_rest and not any(values):
        return f"{question.name}: nothing but 0: {question.expression}"
    return None


def variable_answers(prometheus, dashboards):
    """What is wrong with the variables: each has to offer something."""
    for file, dashboard in dashboards.items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                query = variable["query"]["query"]
                _, label = of_variable(query)
                selector = query[len("label_values("):query.rindex(",")]
                path = f"label/{label}/values"
                offered = prometheus.ask(path, **{"match[]": prometheus.substituted(selector)}, start=prometheus.start,
                                         end=prometheus.end)
                if not offered:
                    yield f"{file}: ${variable['name']} offers nothing: {query}"


def misspelt(question):
    """The question with each of its metrics misspelt in turn."""
    # What Prometheus makes itself nobody exports; a number that is there without any alert has to be.
    metrics = {selector.metric for selector in selectors(question.expression)} - {"ALERTS"}
    for metric in sorted(metrics):
        wrong = re.sub(rf"\b{metric}\b", metric[:-1] + "q" + metric[-1], question.expression)
        yield Question(f"{question.name} with {metric} misspelt", wrong, question.instant, question.at_rest)
