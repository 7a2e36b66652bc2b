"""PromQL as the panels use it: every selector takes the job and the instance that were chosen at the top of the page."""

GATEWAY = 'job=~"$job",instance=~"$instance"'
LOAD_TEST = 'job=~"$loadtest_job",instance=~"$loadtest_instance"'
# What follows from the log alone, and so is the same on every gateway that shares it: to add it up would count each of them.
# The metrics' help texts say so, too.
SAME_ON_EVERY_NODE = {
    "gateway_known_users", "gateway_ledger_accepted_total", "gateway_ledger_final_total", "gateway_mailbox_bytes",
    "gateway_mailbox_depth", "gateway_mailbox_dropped_total", "gateway_mailbox_enqueued_total", "gateway_mailbox_expired_total",
    "gateway_remembered", "gateway_topic_memberships", "gateway_topics",
}


def series(metric, labels="", chosen=None):
    """A selector. The load test's metrics have a job and an instance of their own."""
    if chosen is None:
        chosen = LOAD_TEST if metric.startswith("loadtest_") else GATEWAY
    return metric + "{" + ",".join(part for part in (chosen, labels) if part) + "}"


def rate(metric, labels="", by=""):
    """Events a second, of all chosen instances together."""
    return f"{total_by(by)}(rate({series(metric, labels)}[$__rate_interval]))"


def same(metric, labels="", by=""):
    """A level that is the same on every chosen instance: one of them tells it, the one that is ahead."""
    return f"{largest_by(by)}({series(metric, labels)})"


def same_rate(metric, labels="", by=""):
    """Events a second of a counter that grows the same on every chosen instance."""
    of_each = f"instance, {by}" if by else "instance"
    return f"{largest_by(by)}({rate(metric, labels, of_each)})"


def increase(metric, labels="", by=""):
    """Events in the time that the page shows."""
    return f"{total_by(by)}(increase({series(metric, labels)}[$__range]))"


def total_by(labels):
    """An aggregation that keeps these labels."""
    return f"sum by ({labels}) " if labels else "sum"


def largest_by(labels):
    """The largest value, of all or for each of these labels."""
    return f"max by ({labels}) " if labels else "max"


def quantile(share, metric, labels="", by=""):
    """A quantile of a histogram, over all chosen instances. Where nothing was observed it is NaN, which no panel can draw
    and a tile would print: then there is no series."""
    kept = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(metric + '_bucket', labels, kept)}) >= 0"


def counted_quantile(share, metric, labels="", by=""):
    """The same of a histogram of whole numbers. A bucket holds all that lies between its edges, so that a quantile of ones
    would be 0.99: a whole number is what it was at most."""
    return f"ceil({quantile(share, metric, labels, by).removesuffix(' >= 0')}) >= 0"


def mean(metric, labels="", by=""):
    """The mean of a histogram's observations; no series where nothing was observed."""
    return f"{rate(metric + '_sum', labels, by)} / ({rate(metric + '_count', labels, by)} > 0)"


def process(metric):
    """Every process that Prometheus scrapes has metrics like this one: only those of gateways."""
    return f"({series(metric)} and on (job, instance) {series('gateway_build_info')})"
