"""What waits, what was pushed out, and what pushed back."""

from page import Section
from panels import Query, color, lines, says, steps
from queries import counted_quantile, mean, quantile, rate, same, same_rate, series


def section():
    """Levels, flows, then the sockets' side."""
    return Section("Mailboxes and backpressure", [
        (8, [pending(), pending_bytes(), fullest()]),
        (9, [enqueued(), dropped(), gaps()]),
        (8, [batches(), stalls(), waited()]),
    ])


def pending():
    return lines(
        "Pending",
        says("Notifications that wait in mailboxes: accepted, and neither acked nor final in another way; gateways that share "
             "a log say the same, and count once.",
             "A rise that does not end: receivers are away or do not ack.",
             "Compare with users online; shorten the time to live for those who do not come.",
             "GatewayMailboxSaturated"),
        [Query(same("gateway_mailbox_depth"), "pending")], "short")


def pending_bytes():
    return lines(
        "Pending bytes",
        says("Bytes of the frames that wait in mailboxes.",
             "It rises faster than their number: notifications became larger.",
             "Look at who sends what; frames are not kept once for each recipient, memory is below.",
             "GatewayMailboxSaturated"),
        [Query(same("gateway_mailbox_bytes"), "pending")], "bytes")


def fullest():
    return lines(
        "Fill of the fullest mailbox",
        says("The fullest mailbox since the scrape before, as a share of its bound.",
             "From 80 % on losses are near; at 100 % each further notification costs one.",
             "If pending is low, it is one user who is away; otherwise receivers do not keep up.",
             "GatewayMailboxSaturated"),
        [Query(f"max by (instance) ({series('gateway_mailbox_high_watermark_ratio')})", "{{instance}}")], "percentunit",
        thresholds=steps(("orange", 0.8)), maximum=1)


def enqueued():
    return lines(
        "Into mailboxes, by priority",
        says("Notifications put into mailboxes, a second, one for each recipient.",
             "A jump without one under *Offered* is a large topic.",
             "Look at *Online recipients of a notification*."),
        [Query(same_rate("gateway_mailbox_enqueued_total", by="priority"), "{{priority}}")], "ops", width=6, stacked=True)


def dropped():
    return lines(
        "Dropped and expired",
        says("Notifications, one for each recipient, that a full mailbox pushed out (overflow) or refused (rejected), and "
             "those whose time to live passed, which is no loss.",
             "Red is a loss, and its receiver is told of it.",
             "Bring receivers back, or have the sender send less.",
             "GatewayDeliveryLossBudgetBurnFast", "GatewayDeliveryLossBudgetBurnSlow", "GatewayMailboxesRefuse"),
        [Query(same_rate("gateway_mailbox_dropped_total", by="reason"), "{{reason}}"),
         Query(same_rate("gateway_mailbox_expired_total"), "expired")],
        "ops", width=6, stacked=True, overrides=[color("overflow", "red"), color("rejected", "orange"), color("expired", "blue")])


def gaps():
    return lines(
        "Gaps told to receivers",
        says("Holes that were announced to sessions, a second, by reason.",
             "`overflow` and `epoch` are losses; the others are notifications that no longer mattered.",
             "`epoch` in numbers comes after a log that was restored or lost.",
             "GatewayDeliveryLossBudgetBurnFast"),
        [Query(rate("gateway_gaps_total", by="reason"), "{{reason}}")], "ops", width=12,
        overrides=[color("overflow", "red"), color("epoch", "purple")])


def batches():
    return lines(
        "Notifications in a flush",
        says("How many notifications one flush of a session carried, on average and at the 99th percentile.",
             "Many say that sessions are woken later than notifications come.",
             "With *Workers busy* near 100 %, give it more cores."),
        [Query(mean("gateway_ws_write_batch_frames"), "mean"),
         Query(counted_quantile(0.99, "gateway_ws_write_batch_frames"), "p99")], "short", empty="no pushes")


def stalls():
    return lines(
        "Flushes that had to wait",
        says("Flushes, a second, for which the connection took no more bytes.",
             "Some are clients on bad networks; many at once are a network or a proxy that is full.",
             "Look for 4108 under *Closed, by code*: clients that took nothing for too long.",
             "GatewayConnectionChurn"),
        [Query(rate("gateway_ws_write_stalls_total"), "stalls")], "ops")


def waited():
    return lines(
        "Age of what had waited",
        says("How old notifications were when a session that came later was given them.",
             "As old as the time to live: receivers come back just too late for others.",
             "Lengthen `ttl_seconds`, or find out why they stay away."),
        [Query(quantile(0.5, "gateway_stored_delivery_age_seconds"), "p50"),
         Query(quantile(0.99, "gateway_stored_delivery_age_seconds"), "p99")], "s", empty="nothing had waited")
