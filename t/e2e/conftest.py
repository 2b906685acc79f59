"""The fixtures of the end-to-end tests are in fixtures.py, because the soak tests use them too."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "load"))

from fixtures import folder, gateway, proxy, upstream  # noqa: E402, F401
from reload_fixtures import report, scene  # noqa: E402, F401
