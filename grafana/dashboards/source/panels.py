"""What stands on a dashboard, as Grafana's classic JSON wants it. Where it stands is decided in page.py."""

from dataclasses import dataclass, field

PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
JAEGER = {"type": "jaeger", "uid": "jaeger"}
RUNBOOK = "grafana/README.md#"
# Behind a tile that has nothing to show: neither good nor bad.
NEUTRAL = "#6e6e6e"


@dataclass(frozen=True)
class Query:
    """One expression of a panel.

    The live test wants a value other than 0 somewhere, unless `at_rest` says why 0 is what a sound gateway shows.
    """

    expression: str
    legend: str = ""
    instant: bool = False
    exemplars: bool = False
    form: str = "time_series"
    at_rest: str = ""


@dataclass
class Panel:
    """A panel without its place. `queries` of the trace store are mappings, all others are of Prometheus."""

    kind: str
    title: str
    description: str
    queries: list
    width: int
    settings: dict = field(default_factory=dict)
    datasource: dict = field(default_factory=lambda: PROMETHEUS)


def says(meaning, bad, remedy, *alerts):
    """A description: what it means, what is bad, what to do, and where the runbook goes on."""
    text = f"{meaning} {bad} {remedy}"
    if alerts:
        text += "\n\nRunbook: " + ", ".join(RUNBOOK + alert.lower() for alert in alerts)
    return text


def steps(*above, start="green"):
    """Thresholds: pairs of a colour and the value from which it holds."""
    first = {"color": start, "value": None}
    return {"mode": "absolute", "steps": [first, *({"color": color, "value": value} for color, value in above)]}


def zero_is(good):
    """Value mappings for a number that has to be 0, where a threshold would be a number that nobody chose."""
    return [
        {"type": "value", "options": {"0": {"text": good, "color": "green", "index": 0}}},
        # Without a text the number itself is shown.
        {"type": "range", "options": {"from": 0.0001, "to": None, "result": {"color": "red", "index": 1}}},
    ]


def nothing(text):
    """The mapping for no value at all, which else would have the colour of the lowest threshold: green, most often."""
    return {"type": "special", "options": {"match": "null", "result": {"text": text, "color": NEUTRAL, "index": 99}}}


def color(name, fixed):
    """Paints one series, so that the same thing has the same colour everywhere."""
    return override(name, {"id": "color", "value": {"mode": "fixed", "fixedColor": fixed}})


def shades(pattern, base):
    """Paints the series that a regular expression names in shades of one colour."""
    return override(pattern, {"id": "color", "value": {"mode": "shades", "fixedColor": base}}, regular=True)


def dashed(pattern, *properties):
    """Series that are compared with, not measured: dashed and thin."""
    style = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}}
    return override(pattern, style, {"id": "custom.fillOpacity", "value": 0}, *properties, regular=True)


def override(name, *properties, regular=False):
    """Properties of one series, or of those that a regular expression names."""
    matcher = {"id": "byRegexp" if regular else "byName", "options": name}
    return {"matcher": matcher, "properties": list(properties)}


def tile(title, description, expression, unit, *, width=3, thresholds=None, mappings=(), empty="no data", decimals=None,
         at_rest="", reducer="lastNotNull"):
    """A single number, as it is now: of a query over time a tile would show the last value there was, also when that is
    long ago and its gateway gone."""
    defaults = {
        "unit": unit, "min": 0, "noValue": empty, "mappings": [*mappings, nothing(empty)],
        "color": {"mode": "thresholds"}, "thresholds": thresholds or steps(start="text"),
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "colorMode": "background_solid" if thresholds or mappings else "value", "graphMode": "none",
        "justifyMode": "center", "orientation": "auto", "textMode": "value", "wideLayout": True,
        "showPercentChange": False, "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": [reducer], "fields": "", "values": False},
    }
    settings = {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}
    return Panel("stat", title, description, [Query(expression, instant=True, at_rest=at_rest)], width, settings)


def lines(title, description, queries, unit, *, width=8, stacked=False, thresholds=None, overrides=(), empty="no data",
          minimum=0, maximum=None, soft_maximum=None, points=False, logarithmic=False, decimals=None):
    """Values over time, with a legend that is a table of the last and the largest value: the legend of a narrow panel has
    room for three of them if the panel is nine high."""
    steps_above = [step["value"] for step in (thresholds or steps())["steps"] if step["value"] is not None]
    custom = {
        "drawStyle": "points" if points else "line", "lineInterpolation": "linear",
        # In a stack a series that is 0 has its line where the one below it ends, which then seems to have that colour.
        "lineWidth": 0 if stacked else 1, "showPoints": "never" if stacked else "auto", "pointSize": 4,
        "fillOpacity": 60 if stacked else 0 if logarithmic else 8, "gradientMode": "none",
        # A missing scrape is a hole, not a straight line across it.
        "spanNulls": False, "insertNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "axisPlacement": "auto", "axisLabel": "", "axisBorderShow": False, "axisColorMode": "text",
        "axisCenteredZero": False, "axisGridShow": True, "barAlignment": 0,
        "scaleDistribution": {"type": "log", "log": 2 if unit == "bytes" else 10} if logarithmic else {"type": "linear"},
        "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
    }
    if unit == "percentunit":
        # A share that is 0 all the time would have an axis up to 10,000 %. The first threshold stays in sight.
        soft_maximum = min(steps_above, default=0.05) * 1.2
    if soft_maximum is not None:
        custom["axisSoftMax"] = soft_maximum
    defaults = {
        "unit": unit, "noValue": empty, "mappings": [], "color": {"mode": "palette-classic"},
        "custom": custom, "thresholds": thresholds or steps(),
    }
    # There is no 0 on a logarithmic axis.
    least = None if logarithmic and minimum == 0 else minimum
    for name, value in (("min", least), ("max", maximum), ("decimals", decimals)):
        if value is not None:
            defaults[name] = value
    options = {
        "legend": {"displayMode": "table", "placement": "right" if width >= 12 else "bottom", "showLegend": True,
                   "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": False},
    }
    settings = {"fieldConfig": {"defaults": defaults, "overrides": list(overrides)}, "options": options}
    return Panel("timeseries", title, description, queries, width, settings)


def heatmap(title, description, query, unit, *, width=12, empty="no data"):
    """The buckets of a histogram over time: the darker, the more."""
    hidden = {"legend": False, "tooltip": False, "viz": False}
    defaults = {
        "unit": unit, "noValue": empty,
        "custom": {"hideFrom": hidden, "scaleDistribution": {"type": "linear"}},
    }
    options = {
        "calculate": False, "cellGap": 1, "showValue": "never", "selectionMode": "x",
        "cellValues": {"unit": "short"},
        "color": {"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5, "fill": "dark-orange",
                  "reverse": False, "steps": 64},
        "exemplars": {"color": "rgba(80,160,255,0.9)"},
        # An empty bucket is not a little, it is nothing.
        "filterValues": {"le": 1e-9},
        "legend": {"show": True}, "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    settings = {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}
    return Panel("heatmap", title, description, [query], width, settings)


def bars(title, description, queries, unit, *, width=8, empty="no data"):
    """A bar for each query, as they are now."""
    defaults = {
        "unit": unit, "min": 0, "noValue": empty, "mappings": [],
        # The longest bar is the longest, and not bad for that.
        "color": {"mode": "fixed", "fixedColor": "blue"}, "thresholds": steps(),
    }
    options = {
        "displayMode": "gradient", "orientation": "horizontal", "showUnfilled": True, "valueMode": "color",
        "namePlacement": "auto", "sizing": "auto", "minVizHeight": 16, "minVizWidth": 8, "maxVizHeight": 300,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    settings = {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}
    return Panel("bargauge", title, description, queries, width, settings)


def table(title, description, queries, *, width=24, unit="none", empty="no data", transformations=(), overrides=(),
          datasource=None):
    """Rows of labels and values."""
    defaults = {
        "unit": unit, "noValue": empty, "mappings": [], "color": {"mode": "thresholds"}, "thresholds": steps(start="text"),
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False},
    }
    options = {"showHeader": True, "cellHeight": "sm"}
    settings = {
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)}, "options": options,
        "transformations": list(transformations),
    }
    return Panel("table", title, description, queries, width, settings, datasource or PROMETHEUS)
