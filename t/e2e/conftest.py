"""The fixtures of the end-to-end tests are in fixtures.py, because the soak tests use them too."""
from fixtures import folder, gateway, proxy, upstream  # noqa: F401
