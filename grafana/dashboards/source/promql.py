"""Reads from PromQL what the rules about it need: each selector, its labels, its window and the functions around it.

It is no parser of the language: what is no PromQL at all is found by Prometheus, in the live test.
"""

import re
from dataclasses import dataclass

AGGREGATIONS = {"sum", "min", "max", "avg", "count", "topk", "bottomk", "group", "quantile", "stddev"}
GROUPINGS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "bool", "offset"}
TOKEN = re.compile(r"""
    (?P<text>"(?:[^"\\]|\\.)*")
  | (?P<window>\[[^\]]*\])
  | (?P<labels>\{(?:[^}"]|"(?:[^"\\]|\\.)*")*\})
  | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
  | (?P<number>[0-9][0-9.]*[a-zA-Z]*)
  | (?P<sign>[-+*/%^()=!<>,]+?)
  | (?P<space>\s+)
""", re.VERBOSE)
MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')


class NotReadable(ValueError):
    """The text has something in it that is neither PromQL nor a variable of Grafana."""


@dataclass(frozen=True)
class Selector:
    """A metric as it is selected: labels to operator and value, the window in its brackets or "", functions from the
    outermost to the innermost."""

    metric: str
    labels: dict
    window: str
    functions: tuple


def selectors(expression):
    """Every selector of an expression."""
    found, around, called = [], [], ""
    tokens = without_groupings(tokenize(expression))
    while tokens:
        kind, text = tokens.pop(0)
        following = tokens[0] if tokens else ("", "")
        if kind == "name" and (text in AGGREGATIONS or following[1] == "("):
            called = text
        elif kind == "name" and text not in WORDS:
            labels, window = {}, ""
            if following[0] == "labels":
                labels = {name: (sign, value) for name, sign, value in MATCHER.findall(tokens.pop(0)[1])}
            if tokens and tokens[0][0] == "window":
                window = tokens.pop(0)[1][1:-1]
            found.append(Selector(text, labels, window, tuple(function for function in around if function)))
        elif text == "(":
            around.append(called)
            called = ""
        elif text == ")":
            if not around:
                raise NotReadable(f"a parenthesis too many: {expression}")
            around.pop()
    if around:
        raise NotReadable(f"a parenthesis is not closed: {expression}")
    return found


def without_groupings(tokens):
    """The tokens without `by (...)` and its like: what they hold are labels, no metrics."""
    kept, tokens = [], list(tokens)
    while tokens:
        token = tokens.pop(0)
        if token[1] not in GROUPINGS:
            kept.append(token)
        elif tokens and tokens[0][1] == "(":
            labels = [token[0] for token in tokens[1:tokens.index(("sign", ")"))] if token[1] != ","]
            if set(labels) - {"name"}:
                raise NotReadable(f"{token[1]} is not followed by labels alone")
            del tokens[:tokens.index(("sign", ")")) + 1]
    return kept


def tokenize(expression):
    """Pairs of a kind and its text, spaces left out."""
    at = 0
    while at < len(expression):
        match = TOKEN.match(expression, at)
        if not match:
            raise NotReadable(f"not readable at {expression[at:at + 20]!r}: {expression}")
        if match.lastgroup != "space":
            yield match.lastgroup, match.group()
        at = match.end()


def of_variable(query):
    """The selector in a variable's label_values(selector, label), and the label."""
    match = re.fullmatch(r"label_values\((.*),\s*(\w+)\)", query)
    if not match:
        raise NotReadable(f"a variable that is no label_values(): {query}")
    return selectors(match.group(1))[0], match.group(2)
