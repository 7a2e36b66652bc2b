"""What a panel shows to somebody who chose these gateways, line by line, and whether that is what has to be there.

An expectation is a number; how often something happened, of a panel that shows it a second; or a relation between what the
panel shows of both gateways and what it shows of each alone. A panel of several lines has a dictionary, or one relation for all
its lines. A line that is not expected may be there if it is 0.
"""

import math
import re
from dataclasses import dataclass

from questions import Prometheus, substituted


@dataclass(frozen=True)
class Events:
    """So often it happened since the beginning, all gateways together."""

    count: float


@dataclass(frozen=True)
class About:
    """A mean of what happened since the beginning, over gateways that were not scraped at the same moment."""

    value: float


def events(lines):
    """The same for one line, or for each of several."""
    return {name: Events(count) for name, count in lines.items()} if isinstance(lines, dict) else Events(lines)


@dataclass(frozen=True)
class Relation:
    """Between a line of both gateways and the same line of each alone; `holds(both, one, two)`, where nothing is None."""

    name: str
    holds: callable


def present(one, two):
    return [value for value in (one, two) if value is not None]


def close(first, second):
    return first is not None and second is not None and math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-9)


SHARED = Relation("the same from each", lambda both, one, two: close(both, one) and close(both, two))
ADDED = Relation("both together", lambda both, one, two: close(both, sum(present(one, two))))
BETWEEN = Relation("between the two", lambda both, one, two: both is not None and bool(present(one, two)) and (
    min(present(one, two)) * (1 - 1e-6) <= both <= max(present(one, two)) * (1 + 1e-6)))
LARGEST = Relation("the larger", lambda both, one, two: bool(present(one, two)) and close(both, max(present(one, two))))
SMALLEST = Relation("the smaller", lambda both, one, two: bool(present(one, two)) and close(both, min(present(one, two))))
# A line of its own for each gateway, with its name in it.
OWN = Relation("each by itself", lambda both, one, two: len(present(one, two)) == 1 and close(both, present(one, two)[0]))
# What differs from time to time, and has no such relation.
SOMETHING = Relation("some value", lambda both, one, two: both is not None)


@dataclass(frozen=True)
class Same:
    """The same number whichever gateways are chosen: they share it, and it is there once."""

    value: object


def same(lines):
    """The same for one line, or for each of several; a number, or events."""
    return {name: Same(value) for name, value in lines.items()} if isinstance(lines, dict) else Same(lines)


@dataclass(frozen=True)
class Alone:
    """Of a panel that there is once for each gateway: what that of `one` and that of `two` show."""

    one: object
    two: object


@dataclass
class Page:
    """The dashboards at one moment, over the time since `began`."""

    prometheus: Prometheus
    # Instance to the name that it has in expectations.
    names: dict
    began: float
    moment: float
    # How often is scraped: rate() goes on from the last scrape to the end of its window.
    scrape_seconds: float

    @property
    def seconds(self):
        return math.ceil(self.moment - self.began)

    def lines(self, panel, instances):
        """What a panel shows of these instances: the name of a line to its value, and to how often it happened meanwhile."""
        seconds = self.seconds
        values = {"$__rate_interval": f"{seconds}s", "$__range": f"{seconds}s", "$loadtest_job": "none",
                  "$loadtest_instance": "none", "$job": "gateway", "$instance": "|".join(instances)}
        found = {}
        for target in panel["targets"]:
            is_rate = re.search(r"\brate\(", target["expr"])
            answer = self.prometheus.ask("query", query=substituted(target["expr"], values), time=self.moment)
            for series in answer["result"]:
                name, value = self.name(panel, target, series["metric"]), float(series["value"][1])
                if name in found:
                    raise ValueError(f"two lines are called {name!r}")
                if math.isfinite(value):
                    found[name] = (value, value * (seconds if is_rate else 1))
        return found

    def shows(self, panel, expected):
        """The lines of a panel with both chosen, and with each alone; of one that there is once for each without the first."""
        chosen = [[name] for name in self.names]
        return [self.lines(panel, instances) for instances in (chosen if isinstance(expected, Alone) else [[*self.names], *chosen])]

    def name(self, panel, target, labels):
        """What the legend calls a series; in a table its gateway and column."""
        labels = labels | {"instance": self.names.get(labels.get("instance"), "")}
        if target["format"] == "table":
            columns = {}
            for change in panel["transformations"]:
                columns |= change["options"].get("renameByName", {})
            return f"{labels['instance']} {columns.get('Value #' + target['refId'], target['refId'])}".strip()
        if target["legendFormat"] == "__auto":
            return ""
        return re.sub(r"{{(\w+)}}", lambda match: labels.get(match.group(1), ""), target["legendFormat"])

    def wrong(self, panel, expected):
        """What is wrong with what a panel shows."""
        try:
            *both, one, two = self.shows(panel, expected)
        except ValueError as error:
            yield str(error)
            return
        if isinstance(expected, Alone):
            yield from self.judged(expected.one, one, one, one)
            yield from self.judged(expected.two, two, two, two)
            return
        both, = both
        yield from self.judged(expected, both, one, two)
        if expected is OWN:
            yield from (f"has no line of {name}" for name in self.names.values() if not any(name in line.split() for line in both))

    def judged(self, expected, both, one, two):
        """What is wrong with the lines of a panel."""
        if not isinstance(expected, dict):
            # A panel of one relation has lines, whatever they are called.
            lines = (both | one | two) if isinstance(expected, Relation) else ()
            expected = dict.fromkeys(lines or [""], expected)
        for line in sorted(both.keys() - expected.keys()):
            if both[line][0]:
                yield f"{line or 'its number'} is {both[line][0]:g}, and nothing was expected"
        for line, wanted in expected.items():
            told = (found.get(line, (None, None)) for found in (both, one, two))
            yield from (f"{line or 'its number'} {complaint}" for complaint in self.unlike(wanted, *told))

    def unlike(self, wanted, both, one, two):
        """How a line differs from what is wanted; each of the others is a value and how often it happened, or nothing twice."""
        if isinstance(wanted, Relation):
            if not wanted.holds(both[0], one[0], two[0]):
                yield f"is {both[0]}, alone {one[0]} and {two[0]}: not {wanted.name}"
            return
        if isinstance(wanted, Same):
            for found, whose in ((both, "of both"), (one, "of one"), (two, "of two")):
                yield from (f"{whose} {complaint}" for complaint in self.unlike(wanted.value, found, found, found))
            return
        value, tolerance = both[0], 1e-6
        if isinstance(wanted, (Events, About)):
            value, wanted = (both[1], wanted.count) if isinstance(wanted, Events) else (both[0], wanted.value)
            tolerance = 1.2 * self.scrape_seconds / (self.seconds - 2 * self.scrape_seconds)
        if value is None or not math.isclose(value, wanted, rel_tol=tolerance, abs_tol=1e-9):
            yield f"is {value if value is None else format(value, '.4g')} instead of {wanted:.4g}"
