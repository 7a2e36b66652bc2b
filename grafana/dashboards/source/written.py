"""Every dashboard by the name of its file."""

import json

from loadtest import load_test
from overview import overview
from traces import traces


def pages():
    """File name to the dashboard and the queries that the live test asks: (panel's title, refId) to Query."""
    return {"overview.json": overview(), "loadtest.json": load_test(), "traces.json": traces()}


def texts():
    """File name to the text of the file."""
    return {name: json.dumps(page, indent=2, ensure_ascii=False) + "\n" for name, (page, _) in pages().items()}
