"""Soak tests use the gateway and the peers of the end-to-end tests."""
import os
import sys

for place in ("e2e", "load"):
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", place))

from fixtures import folder, gateway, proxy, upstream  # noqa: E402, F401
from reload_fixtures import report, scene  # noqa: E402, F401
