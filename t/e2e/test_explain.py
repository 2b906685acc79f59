"""gatehouse explain: what it says is what the running gateway does."""
import json
import re

from gateway import run_gatehouse
from peers import answering, request_bytes

CONFIG = """[listener public]
address = 127.0.0.1:0

[upstream users]
target = {target}

[route users]
host     = api.example.com
path     = /v1/users/*
upstream = users

[route beta]
host   = api.example.com
path   = /v1/users/*
header = X-Beta: 1
reply  = 202 beta

[route secure]
path   = /secure
header = X-Forwarded-Proto: https
reply  = 200

[route www]
host     = *.example.org
redirect = 301 https://example.org$uri
"""


def explained(gateway, *arguments):
    result = run_gatehouse("explain", "-c", gateway.config_path, "--listener", "public", *arguments)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    return result.stdout


def test_names_the_lines_that_decide(gateway, upstream):
    server = upstream(answering(b"from the upstream"))
    running = gateway(CONFIG.format(target=server.target))
    path = running.config_path
    text = explained(running, "GET https://api.example.com/v1/users/7")
    lines = [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]
    for what, where in [("listener public (as asked)", "[listener public]"),
                        ("route users", "[route users]"),
                        ("host api.example.com", "host = api.example.com"),
                        ("path /v1/users/*", "path = /v1/users/*"),
                        ("action upstream users", "upstream = users"),
                        (f"target {server.target[7:]}", f"target = {server.target}"),
                        ("not taken beta: header X-Beta: 1 does not hold", "[route beta]")]:
        found, = [line for line in lines if line.startswith(what + " ")]
        with open(path) as file:
            squeezed = [re.sub(r"\s+", " ", line).strip() for line in file]
        # Both routes have the same host and path: the first one's line is meant.
        assert found == f"{what} {path}:{squeezed.index(where) + 1}"
    assert any(line.startswith("hook identify request_id") for line in lines)


def test_says_what_the_gateway_does(gateway, upstream):
    server = upstream(answering(b"from the upstream"))
    running = gateway(CONFIG.format(target=server.target))
    for host, target, fields in [
            ("api.example.com", "/v1/users/7", []),
            ("api.example.com", "/v1/users/7", ["X-Beta: 1"]),
            ("api.example.com", "/v1/users", ["X-Beta: 2"]),
            ("api.example.com", "/v2", []),
            ("API.example.com.", "//v1/./users/x", []),
            ("www.example.org", "/x?y", []),
            ("a.b.example.org", "/", []),
            ("example.org", "/", []),
            # A client that is no trusted proxy cannot say how it came.
            ("x.test", "/secure", ["X-Forwarded-Proto: https"]),
            ("x.test", "/..", []),
            ("x.test", "/%zz", []),
            ("a..b", "/", []),
            ("x.test", "/", ["Transfer-Encoding: chunked", "Content-Length: 3"])]:
        options = [word for field in fields for word in ("-H", field)]
        said = json.loads(explained(running, "--json", *options, f"http://{host}{target}"))
        with running.connect() as client:
            client.send(request_bytes(target, *fields, host=host))
            response = client.read_response()
        if "reason" in said:
            assert (response.status, response.code) == (said["status"], said["reason"]), said
        else:
            wanted = {"users": 200, "beta": 202, "www": 301}[said["route"]]
            assert response.status == wanted, (host, target, fields, said)


def test_questions_that_make_no_sense(gateway, upstream):
    running = gateway(CONFIG.format(target=upstream(answering(b"")).target))
    for arguments in [[], ["ftp://x/"], ["/", "-H", "nonsense"], ["/", "--client", "nobody"],
                      ["/", "--listener", "none"], ["/", "--unknown"]]:
        result = run_gatehouse("explain", "-c", running.config_path, *arguments)
        assert result.returncode == 2 and result.stdout == "" and result.stderr, arguments


def test_errors_of_the_configuration_come_first(folder):
    path = f"{folder}/bad.conf"
    with open(path, "w") as file:
        file.write("[route a]\nreply = 200\n[route b]\nreply = 200\n")
    result = run_gatehouse("explain", "-c", path, "/")
    assert result.returncode == 1
    assert f"{path}:3: [route b]: ties with [route a] at {path}:1" in result.stderr
