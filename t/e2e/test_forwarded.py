"""Who the client is: X-Forwarded-*, Forwarded, Via, X-Request-ID and the trusted-proxy rule."""
import json
import re

import pytest

from gateway import proxy_config
from peers import request_bytes

CLAIMS = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example",
          "X-Forwarded-Port: 1", "X-Forwarded-Prefix: /evil", "X-Real-IP: 6.6.6.6",
          "Forwarded: for=6.6.6.6;proto=https", "X-Request-ID: chosen")


def told(proxy, upstream, fields, listener="", route=""):
    """What the upstream is told when a client sends these fields."""
    server = upstream()
    gateway = proxy(server, listener=listener, route=route)
    assert gateway.get("/", *fields).status == 200
    return server.requests[0]


def test_claims_of_strangers_are_dropped(proxy, upstream):
    request = told(proxy, upstream, CLAIMS)
    assert request.all("X-Forwarded-For") == ["127.0.0.1"]
    assert request.all("X-Forwarded-Proto") == ["http"]
    assert request.all("X-Forwarded-Host") == ["a.example"]
    for name in ("X-Forwarded-Port", "X-Forwarded-Prefix", "X-Real-IP", "Forwarded"):
        assert not request.has(name), name
    assert request.get("Via") == "1.1 gatehouse"
    assert re.fullmatch("[0-9a-f]{32}", request.get("X-Request-ID"))


def test_trust_is_for_the_listed_addresses_only(proxy, upstream):
    request = told(proxy, upstream, CLAIMS, listener="trusted_proxy = 10.0.0.0/8 127.0.0.2")
    assert request.all("X-Forwarded-For") == ["127.0.0.1"]


def test_trusted_proxy_is_believed(proxy, upstream):
    request = told(proxy, upstream, CLAIMS, listener="trusted_proxy = 127.0.0.0/8",
                   route="forwarded = x rfc7239")
    assert request.get("X-Forwarded-For") == "6.6.6.6, 127.0.0.1"
    assert request.get("X-Forwarded-Proto") == "https"
    assert request.get("X-Forwarded-Host") == "evil.example"
    assert request.get("X-Request-ID") == "chosen"
    assert request.get("Forwarded").startswith("for=6.6.6.6;proto=https, for=127.0.0.1")


def test_several_fields_are_one_list(proxy, upstream):
    request = told(proxy, upstream,
                   ("X-Forwarded-For: 1.1.1.1", "Via: 1.0 one", "X-Forwarded-For: 2.2.2.2, 3.3.3.3",
                    "Via: 1.1 two"), listener="trusted_proxy = 127.0.0.1")
    assert request.get("X-Forwarded-For") == "1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1"
    assert request.all("Via") == ["1.0 one", "1.1 two", "1.1 gatehouse"]


@pytest.mark.parametrize("forwarded_for, client", [
    ("6.6.6.6, 9.9.9.9, 10.0.0.1, 10.0.0.2", "9.9.9.9"),       # from the right, past trusted ones
    ("10.0.0.1, 10.0.0.2", "10.0.0.1"),                        # all trusted: the first
    ("evil, 10.0.0.1", "10.0.0.1"),                            # not past what is no address
    ("6.6.6.6, unknown", "127.0.0.1"),
    ("2001:db8::7", "2001:db8::7"),
    ("\"[2001:db8::7]:4711\"", "2001:db8::7"),
    ("192.0.2.1:4711", "192.0.2.1"),
])
def test_walk_from_the_right(gateway, upstream, folder, forwarded_for, client):
    """Who the client is shows where routes and logs name it: in the access log."""
    server = upstream()
    one = gateway(proxy_config(server, listener="trusted_proxy = 127.0.0.0/8 10.0.0.0/8",
                               route="log = who") +
                  f"\n[log who]\nfile = {folder}/who.log\nformat = $client_address\n")
    one.get("/", f"X-Forwarded-For: {forwarded_for}")
    server.close()
    one.stop()
    with open(f"{folder}/who.log") as file:
        assert file.read() == client + "\n"


def test_rfc7239_alone(proxy, upstream):
    request = told(proxy, upstream, CLAIMS, route="forwarded = rfc7239")
    assert request.get("Forwarded") == 'for=127.0.0.1;host="a.example";proto=http'
    for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"):
        assert not request.has(name), name


def test_off(proxy, upstream):
    request = told(proxy, upstream, CLAIMS,
                   route="forwarded = off\nvia = off\nrequest_id = off")
    for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Via",
                 "X-Request-ID", "X-Real-IP"):
        assert not request.has(name), name


def test_ipv6_client_in_both_styles(gateway, upstream):
    server = upstream()
    one = gateway(proxy_config(server, listener="address = [::1]:0",
                               route="forwarded = x rfc7239"))
    one.get()
    request, = server.requests
    assert request.get("X-Forwarded-For") == "::1"
    assert request.get("Forwarded") == 'for="[::1]";host="a.example";proto=http'


def test_http_1_0_is_named_in_via(proxy, upstream):
    server = upstream()
    gateway = proxy(server)
    with gateway.connect() as client:
        client.request(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
    assert server.requests[0].get("Via") == "1.0 gatehouse"


@pytest.mark.parametrize("bad", ["", "x" * 129, 'a"b', "a,b", "a b"])
def test_unusable_request_ids_are_replaced(proxy, upstream, bad):
    request = told(proxy, upstream, (f"X-Request-ID: {bad}",),
                   listener="trusted_proxy = 127.0.0.1")
    assert re.fullmatch("[0-9a-f]{32}", request.get("X-Request-ID"))


def test_request_id_is_the_same_everywhere(proxy, upstream):
    server = upstream()
    gateway = proxy(server, route="request_id = both")
    with gateway.connect() as client:
        ids = set()
        for number in range(5):
            response = client.get()
            assert response.get("X-Request-ID") == server.requests[number].get("X-Request-ID")
            ids.add(response.get("X-Request-ID"))
        assert len(ids) == 5
        server.close()
        client.send(request_bytes())
        response = client.read_response()
        assert response.status == 502
        assert json.loads(response.body)["request_id"] == response.get("X-Request-ID")
        gateway.wait_log(response.get("X-Request-ID"))
