"""The fixtures of end-to-end and soak tests; see gateway.py and peers.py."""
import os
import shutil
import tempfile

import pytest

from gateway import PROGRAM, Gateway, proxy_config
from peers import Upstream


@pytest.fixture
def folder():
    """A folder that workers of another user can enter, unlike pytest's tmp_path."""
    path = tempfile.mkdtemp(prefix="gatehouse-e2e-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def upstream():
    """Makes upstreams: upstream(script, host=…, path=…). Closed before the gateway is checked."""
    made = []

    def make(script=None, **options):
        made.append(Upstream(script, **options))
        return made[-1]

    make.made = made
    yield make
    failures = []
    for server in made:
        try:
            server.close()
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]


@pytest.fixture
def gateway(folder, upstream):
    """Starts gateways: gateway(configuration, workers=1, gatehouse="lines of [gatehouse]")."""
    assert os.path.exists(PROGRAM), f"{PROGRAM} is not there: build it, or set GATEHOUSE"
    made = []

    def make(config, *, start=True, **options):
        place = os.path.join(folder, str(len(made)))
        os.mkdir(place)
        made.append(Gateway(place, config, **options))
        return made[-1].start() if start else made[-1]

    yield make
    failures = []
    # The upstreams end first, so that the connections kept to them are closed.
    for server in upstream.made:
        try:
            server.close()
        except Exception as error:
            failures.append(error)
    upstream.made.clear()
    for one in made:
        try:
            one.stop()
        except Exception as error:
            failures.append(error)
        finally:
            one.kill()
    if failures:
        raise failures[0]


@pytest.fixture
def proxy(gateway):
    """Starts a gateway in front of upstreams: proxy(server, …, listener=…, upstream=…, route=…)."""
    def make(*targets, listener="", upstream="", route="", **options):
        config = proxy_config(*targets, listener=listener, upstream=upstream, route=route)
        return gateway(config, **options)
    return make
