"""Which route takes a request, and what reply and redirect send, with a real gateway."""
import json
import os
import signal

import pytest

from peers import answering, request_bytes

LISTENER = "[listener public]\naddress = 127.0.0.1:0\n"

# Each route answers with its own name, so that the body tells which one was taken.
ROUTES = LISTENER + """
[route exact-host]
host  = api.example.com
path  = /v1/*
reply = 200 $route

[route exact-path]
host  = api.example.com
path  = /v1/users/me
reply = 200 $route

[route name]
host  = api.example.com
path  = /v1/users/{id}
reply = 200 $route $capture_id

[route beta]
host   = api.example.com
path   = /v1/users/{id}
header = X-Beta: 1
reply  = 200 $route

[route debug]
host  = api.example.com
path  = /v1/users/{id}
query = debug
reply = 200 $route

[route write]
host   = api.example.com
path   = /v1/users/{id}
method = PUT DELETE
header = !X-Beta
reply  = 200 $route

[route wildcard]
host  = *.example.com
path  = /v1/*
reply = 200 $route

[route version]
path  = ~ ^/(?<major>\\d+)\\.(?<minor>\\d+)/
reply = 200 $route $capture_major $capture_minor

[route rest]
host  = *.example.com
reply = 200 $route
"""


def ask(client, host, path, *fields, method="GET"):
    client.send(request_bytes(path, *fields, host=host, method=method))
    return client.read_response(method=method)


def taken(gateway, host, path, *fields, method="GET"):
    """What the route that took the request answered, or the reason code of the refusal."""
    with gateway.connect() as client:
        response = ask(client, host, path, *fields, method=method)
        if response.status == 200:
            return response.body.decode().strip()
        return f"{response.status} {response.code}"


def test_the_most_specific_route_takes_a_request(gateway):
    running = gateway(ROUTES)
    for host, path, fields, wanted in [
            ("api.example.com", "/v1/users/me", [], "exact-path"),
            ("API.Example.com.:80", "/v1/users/me", [], "exact-path"),
            ("api.example.com", "/v1/users/7", [], "name 7"),
            ("api.example.com", "/v1/users/7", ["X-Beta: 1"], "beta"),
            ("api.example.com", "/v1/users/7", ["X-Beta: 2"], "name 7"),
            ("api.example.com", "/v1/users/7?a&debug=", [], "debug"),
            ("api.example.com", "/v1/users/7/x", [], "exact-host"),
            ("api.example.com", "/v1", [], "exact-host"),
            ("api.example.com", "/v1x", [], "rest"),
            ("www.example.com", "/v1/users/me", [], "wildcard"),
            ("a.b.example.com", "/other", [], "rest"),
            ("elsewhere.test", "/2.13/x", [], "version 2 13"),
            ("elsewhere.test", "/", [], "404 no_route"),
            ("example.com", "/v1/x", [], "404 no_route")]:
        assert taken(running, host, path, *fields) == wanted, (host, path, fields)
    assert taken(running, "api.example.com", "/v1/users/7", method="PUT") == "write"
    assert taken(running, "api.example.com", "/v1/users/7", method="PATCH") == "name 7"


def test_a_request_is_routed_by_its_one_meaning(gateway):
    """However the path is written, it is the normal form that routes and captures see."""
    running = gateway(ROUTES)
    for path in ["/v1/users/%6de", "/v1//users/me", "/x/../v1/users/me", "/v1/./users/./me",
                 "/v1/%75sers/%2e/me", "http://api.example.com/v1/users/me"]:
        assert taken(running, "api.example.com", path) == "exact-path", path
    assert taken(running, "api.example.com", "/v1/users/a%2Fb") == "name a%2Fb"
    assert taken(running, "api.example.com", "/v1/users/..%2Fadmin") == "400 bad_target"
    assert taken(running, "api.example.com", "/../v1") == "400 bad_target"


def test_routes_belong_to_their_listeners(gateway):
    running = gateway("""
[listener one]
address = 127.0.0.1:0
[listener two]
address = 127.0.0.1:0
[route first]
listener = one
reply = 200 $route $listener
[route second]
listener = two
path = /only
reply = 200 $route $listener
[route both]
listener = one two
path = /both
reply = 200 $route $listener
""")
    def name_at(listener, path):
        with running.connect(listener) as client:
            response = client.get(path)
            return response.body.decode().strip() if response.status == 200 else response.code
    assert name_at("one", "/") == "first one"
    assert name_at("two", "/only") == "second two"
    assert name_at("two", "/") == "no_route"
    assert [name_at("one", "/both"), name_at("two", "/both")] == ["both one", "both two"]


def test_ten_thousand_routes(gateway):
    """Each is found, and none by another's name."""
    config = LISTENER + "".join(f"[route r{n}]\nhost = h{n % 100}.example\npath = /p{n}/*\n"
                                "reply = 200 $route\n" for n in range(10000))
    running = gateway(config)
    with running.connect() as client:
        for n in range(0, 10000, 97):
            assert ask(client, f"h{n % 100}.example", f"/p{n}/x").body == b"r%d\n" % n
            assert ask(client, f"h{(n + 1) % 100}.example", f"/p{n}/x").status == 404


def test_an_expression_that_runs_away_holds_nobody_up(gateway):
    running = gateway(LISTENER + """
[route slow]
path  = ~ ^/(a+)+$
reply = 200 slow
[route rest]
reply = 200 rest
""")
    assert taken(running, "a.example", "/aaaa") == "slow"
    assert taken(running, "a.example", "/" + "a" * 60 + "b") == "rest"
    running.wait_log(r"expression \^/\(a\+\)\+\$ gave up")


# ---- reply ---------------------------------------------------------------------------------------

def test_a_reply_says_what_it_knows(gateway):
    running = gateway(LISTENER + """
[route json]
reply        = 201
reply_type   = application/json
reply_body   = {"host": "$host", "agent": "$header_user_agent",
reply_body   =  "q": "$query_q", "uri": "$uri"}
reply_header = Cache-Control: no-store
reply_header = X-Agent: $header_user_agent
""")
    with running.connect() as client:
        response = client.get("/x%7e?q=a%22b", 'User-Agent: "quoted" \\ \xe9'.encode("latin-1")
                              .decode("latin-1"))
    assert response.status == 201
    assert response.all("Content-Type") == ["application/json"]
    assert response.get("Cache-Control") == "no-store"
    said = json.loads(response.body)
    assert said["host"] == "a.example" and said["uri"] == "/x~?q=a%22b" and said["q"] == "a%22b"
    assert said["agent"].startswith('"quoted" \\ ')
    assert response.get("X-Agent").startswith('"quoted" \\ ')


def test_head_and_bodiless_replies(gateway):
    running = gateway(LISTENER + """
[route text]
path  = /text
reply = 200 hello
[route none]
path  = /none
reply = 204
""")
    with running.connect() as client:
        client.send(request_bytes("/text", method="HEAD"))
        head = client.read_response(method="HEAD")
        assert (head.status, head.get("Content-Length"), head.body) == (200, "6", b"")
        assert client.get("/text").body == b"hello\n"
        none = client.get("/none")
        assert (none.status, none.body, none.get("Content-Length")) == (204, b"", None)
        assert client.get("/text").body == b"hello\n", "the connection is still in step"


def test_a_reply_leaves_the_request_body_behind(gateway):
    running = gateway(LISTENER + "[route r]\nreply = 200 $method\n")
    with running.connect() as client:
        for _ in range(3):
            assert client.get("/", method="POST", body=b"x" * 1000).body == b"POST\n"


def test_a_file_is_read_when_the_configuration_is_loaded(gateway, folder):
    with open(f"{folder}/page.html", "w") as file:
        file.write("<h1>$host stays</h1>")
    running = gateway(LISTENER + f"[route page]\nreply = 200\nreply_file = {folder}/page.html\n")
    for _ in range(2):
        response = running.get("/")
        assert response.body == b"<h1>$host stays</h1>"
        assert response.get("Content-Type") == "text/html; charset=utf-8"
        with open(f"{folder}/page.html", "w") as file:
            file.write("changed")


def test_a_replacement_worker_serves_the_file_as_it_was(gateway, folder):
    with open(f"{folder}/page.html", "w") as file:
        file.write("as it was")
    running = gateway(LISTENER + f"[route page]\nreply = 200\nreply_file = {folder}/page.html\n")
    running.sent = None
    os.unlink(f"{folder}/page.html")
    running.send_signal(signal.SIGKILL, running.worker)
    assert running.get("/").body == b"as it was"


# ---- redirect ------------------------------------------------------------------------------------

@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(gateway, status):
    running = gateway(LISTENER + f"[route r]\nredirect = {status} https://$host$uri\n")
    response = running.get("/a%20b/?x=y&z")
    assert response.status == status
    assert response.get("Location") == "https://a.example/a%20b/?x=y&z"
    assert response.body == b""


def test_a_redirect_cannot_be_split(gateway):
    running = gateway(LISTENER + """
[route old]
path     = /old/*
redirect = /new/$capture_rest?agent=$header_user_agent
""")
    with running.connect() as client:
        response = client.get("/old/%0d%0aSet-Cookie:%20a=1/x", "User-Agent: a b\t\"<c>\"")
        assert response.status == 302 and not response.has("Set-Cookie")
        assert response.get("Location") == \
            "/new/%0D%0ASet-Cookie:%20a=1/x?agent=a%20b%09%22%3Cc%3E%22"
        assert client.get("/old").get("Location") == "/new/?agent="


def test_without_a_host_there_is_no_redirect_to_it(gateway):
    running = gateway(LISTENER + "[route r]\nredirect = https://$host$uri\n")
    with running.connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        response = client.read_response()
        assert response.status == 400 and response.code == "missing_host"


# ---- error replies -------------------------------------------------------------------------------

def test_browsers_get_a_page_and_programs_get_problem_details(gateway):
    running = gateway(LISTENER + "[route r]\npath = /there\nreply = 200\n")
    with running.connect() as client:
        details = client.get("/none", "Accept: */*")
        assert details.get("Content-Type") == "application/problem+json"
        said = json.loads(details.body)
        assert (said["status"], said["code"], said["title"]) == (404, "no_route", "Not Found")
        page = client.get("/none", "Accept: text/html,application/xhtml+xml,*/*;q=0.8")
        assert page.get("Content-Type").startswith("text/html")
        assert b"404 Not Found" in page.body and b"no_route" in page.body


def test_the_request_goes_to_the_upstream_of_its_route(gateway, upstream):
    first, second = upstream(answering(b"1")), upstream(answering(b"2"))
    running = gateway(LISTENER + f"""
[upstream two]
target = {second.target}
[route one]
path     = /one/*
upstream = {first.target}
[route two]
path     = /two/*
upstream = two
""")
    assert [running.get("/one/a").body, running.get("/two/a").body] == [b"1", b"2"]
    assert [request.target for request in first.requests] == ["/one/a"]
    assert [request.target for request in second.requests] == ["/two/a"]


def test_an_upstream_may_be_named_like_the_url_of_a_route(gateway, upstream):
    """The [upstream] with two targets and the upstream that the URL makes are two, whoever asks."""
    first, second = upstream(answering(b"1")), upstream(answering(b"2"))
    url = first.target
    running = gateway(LISTENER + f"""
[upstream {url.removeprefix("http://")}]
target = {first.target}
target = {second.target}
[route named]
path     = /named
upstream = {url.removeprefix("http://")}
[route url]
path     = /url
upstream = {url}
[route url-with-slash]
path     = /slash
upstream = {url}/
""")
    with running.connect() as client:
        for _ in range(4):
            assert client.get("/url").body == b"1"
            assert client.get("/slash").body == b"1"
            assert {client.get("/named").body for _ in range(2)} == {b"1", b"2"}
