"""What every panel has to show of the two gateways of cluster.py: file, title, expectation (shown.py).

A gateway's own (sessions, sends, acks) is added up; what follows from the log alone is the same from each of them and there
once; of what has bounds the worse one is shown. A panel that is not here is a complaint, so that somebody decides.
"""

from shown import ADDED, BETWEEN, LARGEST, OWN, SHARED, SMALLEST, SOMETHING, About, Alone, events, same

# Sends that were accepted: 21 by `one`, 15 by `two`. A topic of three is one send and comes to three mailboxes, `*` to none.
SENT = {"one": 21, "two": 15}
CAME, LOST, PENDING = 37, 2, 21
OUTCOMES = {"acked": 10, "expired": 2, "collapsed": 1, "withdrawn": 1, "dropped_overflow": LOST}
FINAL = sum(OUTCOMES.values())
# ann and dave; ben, dave, zoe, and eve on an event stream.
SESSIONS = {"one": 2, "two": 4}
WRITTEN = {"one": 7, "two": 11}

OVERVIEW = {
    # Is it fine?
    "Gateways down": 0,
    # A mailbox that is full, a file of keys that cannot be read, spans that nobody takes; on a slow machine more. One that is
    # about both together would count once, and not twice.
    "Firing alerts": ADDED,
    "Open sessions": 6,
    "Accepted": events(36),
    "Pushed": events(18),
    "Push p99": BETWEEN,
    "Late pushes, 1 h": LARGEST,
    "Lost, 1 h": LOST / CAME,
    "Answered 503": LARGEST,
    "Fullest mailbox": same(1),
    "Books": same(0),
    "Free for the log": SMALLEST,
    "Memory": LARGEST,
    "File descriptors": LARGEST,
    "Workers busy": LARGEST,
    "Youngest start": SMALLEST,
    "Not ready": 0,
    "To leave": 0,
    "Wrong credentials": LARGEST,
    "No room": LARGEST,
    "Stale credentials": 2,
    "Panics": 0,
    # Traffic
    "Offered, by answer": events(
        {"accepted": 36, "repeated": 1, "conflict": 1, "invalid": 2, "too_large": 1, "unauthorized": 3}),
    # To dave and to a topic on both gateways: queued on each; zoe got nothing but what went to everybody.
    "Queued, written, acked": events({"queued": 12, "written": 18, "acked": 11, "written after waiting": 5}),
    "Refused sends": LARGEST,
    "Requests, by status": ADDED,
    "Request p99, by route": BETWEEN,
    "Requests on notifications": BETWEEN,
    # dave, who is on both gateways, is one recipient; of what goes to everybody he is two.
    "Online recipients of a notification": {"user": About(7 / 34), "topic": 3, "everybody": 6},
    "Requests in flight, connections failed": {"requests in flight": ADDED, "first request never came": About(2)},
    # Push latency
    "From acceptance to written": ADDED,
    "Written, percentiles": BETWEEN,
    "p99 by stage": BETWEEN,
    "p50 by stage": BETWEEN,
    "Acked, percentiles": BETWEEN,
    "Late pushes": LARGEST,
    # Mailboxes and backpressure
    "Pending": same({"pending": PENDING}),
    "Pending bytes": SHARED,
    "Fill of the fullest mailbox": {"one": 1, "two": 1},
    "Into mailboxes, by priority": same(events({"high": 1, "normal": CAME - 1})),
    "Dropped and expired": same(events({"overflow": LOST, "expired": 2})),
    "Gaps told to receivers": events({"epoch": 2}),
    "Notifications in a flush": BETWEEN,
    "Flushes that had to wait": {"stalls": ADDED},
    "Age of what had waited": BETWEEN,
    # Sessions
    "Open": {"websocket": 5, "sse": 1, "users online": 6, "connections": 6},
    "Closed, by code": events({"other client": 3}),
    "Opened, by result": events(
        {"websocket accepted": 5, "sse accepted": 4, "sse overloaded": 2, "websocket origin": 1}),
    # What kim read from one gateway went on at the other.
    "How sessions began": events({"fresh": 6, "resumed": 1, "foreign": 2}),
    "Waiting for a session that comes": {"mean": About(5 / 9), "p99": BETWEEN},
    "Sessions that break, of those open": OWN,
    "Ping round trip": BETWEEN,
    "How long sessions lasted": BETWEEN,
    "Acks, by way": {"pong": ADDED, "http": events(1)},
    "Bytes over WebSockets": ADDED,
    # zoe, to whom nothing was sent, is known where she is: on `two`, which knows most. dave is online twice.
    "Users and topics": {"known": 8, "online": 6, "topics": same(2), "subscriptions": same(4)},
    # Access and limits
    "Refused for credentials": events({"unknown_signer": 3}),
    "Refused by limits": events({"header_size": 2, "header_timeout": 2, "sessions_per_node": 2}),
    "Access refused, over five minutes": LARGEST,
    "Refused for want of room": LARGEST,
    "Credentials read again": {"api_keys failed": About(2), "api_keys stale": 1},
    "Ready": {"one": 1, "two": 1},
    "A stop, and who is left": {"one left": 0, "two left": 0, "one stopping": 0, "two stopping": 0},
    "Panics in requests and sessions": {"one": 0, "two": 0},
    "Remembered of strangers": {
        "idempotency_keys": same(1), "outcomes": same(35), "addresses": LARGEST, "senders": LARGEST, "online_elsewhere": 4},
    # Ledger
    "What became of notifications": same(events(OUTCOMES)),
    "Came in, became final": same(events({"came in": CAME, "became final": FINAL})),
    "Lost": {"1h": LOST / CAME, "6h": LOST / CAME},
    "By how much the books are out": {"one": 0, "two": 0},
    # Log
    "Append": BETWEEN,
    "Slow appends": OWN,
    "Entries in an append": BETWEEN,
    "Appends and entries not taken": {"appends": ADDED},
    "Entries in the log": OWN,
    "Size and room": OWN,
    "Free for the log, in reserves": SMALLEST,
    # Gateways side by side
    "Each gateway": {
        "one ready": 1, "two ready": 1, "one log answers": 1, "two log answers": 1, "one behind the log": 0,
        "two behind the log": 0, "one hears": 2, "two hears": 2, "one sessions": SESSIONS["one"],
        "two sessions": SESSIONS["two"], "one accepted": events(SENT["one"]), "two accepted": events(SENT["two"]),
        "one cores": OWN, "two cores": OWN, "one memory": OWN, "two memory": OWN},
    "Behind the log": {"one": 0, "two": 0},
    "Entries behind the log": {"one": 0, "two": 0},
    "Log answers": {"one": 1, "two": 1},
    "Came in, by gateway": events({"one": CAME, "two": CAME}),
    "Pending, by gateway": {"one": PENDING, "two": PENDING},
    "Gateways that share the log": {"one": 2, "two": 2},
    "Not answered by other gateways": events({"one": 1}),
    # Resources
    "Processor": OWN,
    "Busy share of workers": OWN,
    "Tasks": ADDED,
    "Resident memory": OWN,
    # Nobody has twenty.
    "Memory for each session": {},
    "Open descriptors": OWN,
    "Threads": OWN,
    "Spans": ADDED,
    "What runs": {"one A": 1, "two A": 1, "one B": 1, "two B": 1, "one stopping": 0, "two stopping": 0},
    # The row that there is once for each.
    "Accepted and written": Alone(*(events({"accepted": SENT[name], "written": WRITTEN[name]}) for name in SENT)),
    "Written, p50 and p99": Alone(SOMETHING, SOMETHING),
    "Sessions of this gateway": Alone({"websocket": 2}, {"websocket": 3, "sse": 1}),
    "Processor of this gateway": Alone(SOMETHING, SOMETHING),
    "Memory of this gateway": Alone(SOMETHING, SOMETHING),
    "Pending and dropped": Alone(*2 * [{"pending": PENDING, "dropped a second": events(LOST)}]),
    "Ready, and its log": Alone(*2 * [{"ready": 1, "log answers": 1, "gateways heard": 2}]),
    "Behind the log, this gateway": Alone(*2 * [{"behind": 0}]),
}

# Of the page of load tests what it says of gateways: no load test runs.
LOAD_TEST = {
    "Push: receivers and gateway": BETWEEN,
    "Processor of the gateway": OWN,
    "Processor for each push": BETWEEN,
    "Memory of the gateway": OWN,
    "Sessions of the gateway": {"gateway": 6},
}

TRACES = {
    "Pushes, with their traces": BETWEEN,
    # The difference of two means over different things need not lie between those of each.
    "Where the time goes": {"to mailbox": BETWEEN, "to kernel": SOMETHING},
    "Spans exported": {"one": 0, "two": 0},
    "Spans dropped": ADDED,
}

BOTH_LIVE = {"overview.json": OVERVIEW, "loadtest.json": LOAD_TEST, "traces.json": TRACES}

# `two` was told to stop, and its three sockets stay.
ONE_STOPS = {
    "Not ready": 0,
    "To leave": 3,
    # Who was told to leave has no session any more, but still a socket.
    "Open sessions": 2,
    "Ready": {"one": 1, "two": 0},
    "A stop, and who is left": {"two left": 3, "two stopping": 1},
    "Pending": same({"pending": PENDING}),
}
# It was killed: what was its own is gone, what was in the log is not.
ONE_IS_GONE = {
    "Gateways down": 1,
    "Open sessions": 2,
    "Pending": {"pending": PENDING},
    "Users and topics": {"known": 7, "online": 2, "topics": 2, "subscriptions": 4},
    "Pending, by gateway": {"one": PENDING},
    "Gateways that share the log": {"one": 1},
    "Ready": {"one": 1},
}
