"""The books: what came in has to be pending or final, and what became of it. They follow from the log, so that gateways which
share it have the same: each is asked, and one is believed."""

from page import Section
from panels import Query, color, lines, says, steps
from queries import same_rate, series


def section():
    """Ends, the two sides of the books, and what is lost of the objective."""
    return Section("Ledger", [(8, [outcomes(), sides()]), (8, [lost(), imbalance()])])


def outcomes():
    return lines(
        "What became of notifications",
        says("Notifications that became final, a second, one for each recipient, by outcome.",
             "`acked` is the good end; `dropped_overflow` and `dropped_rejected` are losses.",
             "Follow the losses in the section above.",
             "GatewayDeliveryLossBudgetBurnFast"),
        [Query(same_rate("gateway_ledger_final_total", by="outcome"), "{{outcome}}")], "ops", width=12, stacked=True,
        overrides=[color("acked", "green"), color("dropped_overflow", "red"), color("dropped_rejected", "orange"),
                   color("expired", "blue"), color("collapsed", "yellow"), color("withdrawn", "purple")])


def sides():
    return lines(
        "Came in, became final",
        says("Notifications that came to mailboxes and those that became final, a second.",
             "The first above the second for long: *Pending* grows.",
             "Across a restart both may show a peak that did not happen: they count from the oldest entry in the log.",
             "GatewayMailboxSaturated"),
        [Query(same_rate("gateway_ledger_accepted_total"), "came in"),
         Query(same_rate("gateway_ledger_final_total"), "became final")],
        "ops", width=12)


def lost():
    return lines(
        "Lost",
        says("The share of what came to mailboxes that was lost, over an hour and over six, of the worst gateway.",
             "The objective allows 0.1 %; at 0.6 % or 1.44 % an alert fires.",
             "One hour above six: it gets worse. Until a process is as old as the window, the last five minutes stand for an "
             "hour and the last thirty for six; younger than those it says nothing.",
             "GatewayDeliveryLossBudgetBurnFast", "GatewayDeliveryLossBudgetBurnSlow"),
        [Query(f"max({series('gateway:delivery_lost:ratio_rate' + window)})", window) for window in ("1h", "6h")],
        "percentunit", width=12, empty="nothing came, or nothing is known yet",
        thresholds=steps(("yellow", 0.001), ("orange", 0.006), ("red", 0.0144)))


def imbalance():
    return lines(
        "By how much the books are out",
        says("Accepted notifications, less those pending and those final, at each scrape.",
             "Anything but a line at 0 is a bug of the gateway.",
             "Copy the log's directory, keep the log lines, report both.",
             "GatewayLedgerImbalance"),
        [Query(f"max by (instance) ({series('gateway_ledger_imbalance')})", "{{instance}}",
               at_rest="the books of a sound gateway are balanced")], "short", width=12, decimals=0,
        soft_maximum=1)
