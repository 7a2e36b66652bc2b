"""The overview, section by section in the order in which somebody who was woken looks for the cause."""

from page import dashboard

from . import access, ledger, log, mailboxes, nodes, push, resources, sessions, status, together, traffic

PARTS = (status, traffic, push, mailboxes, sessions, access, ledger, log, together, resources, nodes)


def overview():
    """The dashboard and what the live test expects of its expressions."""
    text = "Is the gateway fine, and if not, where is the trouble? The first two lines answer; the sections go on."
    return dashboard("gw-overview", text, [part.section() for part in PARTS])
