"""Asks the dashboards about two gateways on one log, and holds what they show against what happened."""

import copy
import re
import time

from cluster import SCRAPE_SECONDS, Cluster
from form import asks_prometheus, panels
from promql import selectors
from queries import SAME_ON_EVERY_NODE
from shown import BETWEEN, SOMETHING, Alone, Page
from truths import BOTH_LIVE, ONE_IS_GONE, ONE_STOPS
from written import pages

# Whom a gateway has online itself is in these, too.
WITH_ITS_OWN = {"gateway_known_users", "gateway_remembered"}
# What the alert about gateways that differ compares.
COMPARED = ("gateway:ledger_gained:least", "gateway:ledger_gained:most", "gateway:pending:least", "gateway:pending:most")


def shown_wrongly(stage):
    """Lets everything happen to two gateways, and gives what is shown wrongly of it."""
    of_gateways = panels_of_gateways()
    shown = {(file, title): expected for file, titles in BOTH_LIVE.items() for title, expected in titles.items()}
    later = of_the_overview(ONE_STOPS) | of_the_overview(ONE_IS_GONE)
    wrong = [f"{file}: {title}: truths.py does not say what it shows of two gateways"
             for file, title in of_gateways.keys() - shown.keys()]
    wrong += [f"{file}: {title}: truths.py has a panel that there is not"
              for file, title in (shown | later).keys() - of_gateways.keys()]
    if wrong:
        return wrong
    cluster = Cluster(stage)
    cluster.everything_happens()
    print(f"two gateways on one log: {len(shown)} panels, with both, while one stops, when it is gone")
    wrong += seen_wrongly("both live", cluster, shown, of_gateways)
    wrong += unnoticed(page_now(cluster), shown, of_gateways, list(of_broken(shown, of_gateways)))
    wrong += differ(cluster.exported()) + alerted_wrongly(cluster)
    cluster.one_wants_to_stop()
    wrong += seen_wrongly("one stops", cluster, of_the_overview(ONE_STOPS), of_gateways)
    cluster.one_is_gone()
    wrong += seen_wrongly("one is gone", cluster, of_the_overview(ONE_IS_GONE), of_gateways)
    return wrong


def of_the_overview(titles):
    return {("overview.json", title): expected for title, expected in titles.items()}


def panels_of_gateways():
    """File and title to each panel that asks something of gateways."""
    return {
        (file, panel["title"]): panel for file, (page, _) in pages().items() for panel in panels(page)
        if asks_prometheus(panel) and any(not selector.metric.startswith("loadtest_") for target in panel["targets"]
                                          for selector in selectors(target["expr"]))}


def seen_wrongly(when, cluster, shown, of_gateways):
    """What is wrong with these panels now."""
    page = page_now(cluster)
    for (file, title), expected in shown.items():
        for problem in page.wrong(of_gateways[file, title], expected):
            yield f"{when}: {file}: {title}: {problem}"


def page_now(cluster):
    names = {cluster.one.operators: "one", cluster.two.operators: "two"}
    return Page(cluster.prometheus, names, cluster.began, cluster.moment(), SCRAPE_SECONDS)


def of_broken(shown, of_gateways):
    """Each panel with each of its expressions aggregated wrongly in turn: file, title and panel."""
    for (file, title), expected in shown.items():
        wanted = expected.values() if isinstance(expected, dict) else [expected]
        if isinstance(expected, Alone) or BETWEEN in wanted or SOMETHING in wanted:
            # Of one gateway there is nothing to add; a quantile or a mean may lie between those of two, however it is made.
            continue
        for number, target in enumerate(of_gateways[file, title]["targets"]):
            for wrong in aggregated_wrongly(target["expr"]):
                panel = copy.deepcopy(of_gateways[file, title])
                panel["targets"][number]["expr"] = wrong
                yield file, title, panel


def aggregated_wrongly(expression):
    """The expression with its gateways added up where they are not, and not where they are, or all in one."""
    found = re.search(r"\b(sum|max|min)\b( by \(([^)]*)\) )?", expression)
    if found:
        before, after = expression[:found.start()], expression[found.end():]
        operator, labels = found.group(1), (found.group(3) or "").split(", ")
        if "instance" in labels:
            labels.remove("instance")
        else:
            operator = "max" if operator == "sum" else "sum"
        yield f"{before}{operator} by ({', '.join(labels)}) {after}"


def unnoticed(page, shown, of_gateways, broken):
    """The broken panels that show something else than the whole ones, and are not complained about."""
    alike = 0
    for file, title, panel in broken:
        expected = shown[file, title]
        if page.shows(panel, expected) == page.shows(of_gateways[file, title], expected):
            alike += 1
        elif not any(page.wrong(panel, expected)):
            yield f"{file}: {title}: nobody notices {[target['expr'] for target in panel['targets']]}"
    print(f"aggregated wrongly: {len(broken)} expressions, of which {alike} show what they did, such as 0; the others have to be noticed")


def differ(exported):
    """Where what both gateways say themselves is not the same although it follows from the log alone."""
    told = []
    for text in exported:
        series = re.findall(r"^(\w+)(\S*) (\S+)$", text, re.MULTILINE)
        told.append({name + labels: value for name, labels, value in series if name in SAME_ON_EVERY_NODE - WITH_ITS_OWN})
    one, two = told
    return [f"{name}: {one.get(name)} and {two.get(name)} in the metrics of two gateways on one log"
            for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name)]


def alerted_wrongly(cluster):
    """Whether the alert about gateways that differ was silent, and compared both."""
    wrong = [f"{recorded} is not there of both gateways" for recorded in COMPARED if cluster.count(recorded) != 2]
    cluster.prometheus.end = time.time()
    if list(cluster.prometheus.series('ALERTS{alertname="GatewayNodesDiffer"}')):
        wrong.append("GatewayNodesDiffer of two gateways that agree")
    return wrong
