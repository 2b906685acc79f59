"""health = grpc: the agent asks targets by the gRPC health protocol."""
import pytest

from grpc_peers import NOT_SERVING, SERVICE, SERVING, Server, Stub
from traffic_agent import watched
from waiting import eventually

FAST = "every 100ms jitter 0% timeout 2s rise 1 fall 2"


@pytest.fixture
def echo():
    server = Server()
    yield server
    server.close()


def config(server, health):
    return f"""
[listener public]
address = 127.0.0.1:0
[upstream app]
target = {server.target}
protocol = h2
health = {health} {FAST}
[route calls]
grpc = *
upstream = app
"""


def named(server):
    return f"app/127.0.0.1:{server.port}"


@pytest.mark.parametrize("service", ["", SERVICE])
def test_down_and_up(gateway, echo, service):
    part = f" service {service}" if service else ""
    gate = watched(gateway, config(echo, "grpc" + part))
    gate.wait_health(named(echo), "up")
    echo.health.states[service] = NOT_SERVING
    gate.wait_health(named(echo), "down")
    eventually(lambda: f"target {named(echo)} is down: NOT_SERVING" in gate.log(), "a line")
    echo.health.states[service] = SERVING
    gate.wait_health(named(echo), "up")
    assert set(echo.health.asked) == {service}
    gate.count(1)
    with Stub(gate.port) as stub:
        assert stub.unary(b"a") == b"a"


def test_a_service_that_is_not_there(gateway, echo):
    gate = watched(gateway, config(echo, "grpc service demo.Other"))
    gate.wait_health(named(echo), "down")
    eventually(lambda: "is down: grpc-status 5: unknown service" in gate.log(), "a line")


def test_a_target_that_speaks_something_else(gateway, upstream):
    server = upstream(
        lambda connection: connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    gate = watched(gateway, f"""
[listener public]
address = 127.0.0.1:0
[upstream app]
target = {server.target}
health = grpc {FAST}
[route all]
upstream = app
""")
    gate.wait_health("app/" + server.target[len("http://"):], "down")
