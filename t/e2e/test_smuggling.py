"""The smuggling corpus, sent to a real gateway and watched byte by byte on both sides.

What must hold for each case: the upstream sees exactly the requests that the verdict names, in
canonical framing, and nothing that could be read in a second way; the client sees exactly the
responses that belong to them; and a connection that carried something doubtful carries nothing
else. The cases are in smuggling/request_cases.py and smuggling/response_cases.py.
"""
import os
import shutil
import sys
import tempfile

import pytest

from gateway import Gateway, proxy_config
from waiting import eventually

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "smuggling"))

import harness  # noqa: E402
import request_cases  # noqa: E402
import response_cases  # noqa: E402

END = b"GET /end HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def running():
    """One gateway for all cases: a case that does harm to a later one is a finding too."""
    folder = tempfile.mkdtemp(prefix="gatehouse-smuggling-")
    os.chmod(folder, 0o755)
    upstream = harness.Upstream()
    gateway = Gateway(folder, proxy_config(f"http://127.0.0.1:{upstream.port}",
                                           listener="http2 = off"))
    gateway.sent = None  # what is refused and what is pipelined is not counted here
    gateway.upstream = upstream
    try:
        yield gateway.start()
        upstream.close()
        gateway.stop()
    finally:
        gateway.kill()
        shutil.rmtree(folder, ignore_errors=True)


def check_seen(gateway, mark, wanted):
    """The upstream saw exactly the wanted requests, each in one canonical form."""
    eventually(lambda: len(gateway.upstream.since(mark)[0]) >= len(wanted),
               lambda: f"the upstream sees {wanted}: {gateway.upstream.since(mark)}")
    seen, malformed = gateway.upstream.since(mark)
    assert not malformed, malformed
    seen = sorted((request for _, request in seen), key=lambda r: r.values("x-request-id"))
    plain = [(r.method, r.target, r.body) for r in seen]
    assert sorted(plain) == sorted((m, t, b) for m, t, b, *_ in wanted), seen
    for method, target, body, *fields in wanted:
        if not fields:
            continue
        request = next(r for r in seen if (r.method, r.target, r.body) == (method, target, body))
        for name, value in fields[0].items():
            assert request.values(name) == ([] if value is None else [value]), (name, request.raw)
    for request in seen:
        for name in ("keep-alive", "proxy-connection", "http2-settings"):
            assert not request.values(name), request.raw
        for value in request.values("connection"):
            assert value.lower() in ("close", "keep-alive", "upgrade"), request.raw


def methods_of(verdict):
    if isinstance(verdict, request_cases.After):
        return [request[0] for request in verdict.requests] + methods_of(verdict.then)
    if isinstance(verdict, request_cases.Passed):
        return [request[0] for request in verdict.requests] + ["GET"]
    return ["GET"]


@pytest.mark.parametrize("dribble", [False, True], ids=["whole", "dribble"])
@pytest.mark.parametrize("name,raw,verdict", request_cases.CASES,
                         ids=[c[0] for c in request_cases.CASES])
def test_request(running, name, raw, verdict, dribble):
    running.upstream.forget_malformed()
    mark = running.upstream.mark()
    truncated = isinstance(verdict, request_cases.Dropped)
    answer = harness.exchange(running.port, raw if truncated else raw + END, methods_of(verdict),
                              dribble=dribble, half_close=truncated)
    assert answer.ended, f"the connection stays open: {answer.received!r}"
    responses, rest = answer.responses(methods_of(verdict))
    assert not rest, f"left over: {rest!r}"
    statuses = [response.status for response in responses]

    passed = []
    if isinstance(verdict, request_cases.After):
        passed, verdict = verdict.requests, verdict.then
    if isinstance(verdict, request_cases.Passed):
        wanted = verdict.requests + ([] if verdict.closes else [("GET", "/end", b"")])
        assert statuses == [200] * len(wanted), responses
        for request, response in zip(wanted, responses):
            assert response.body == (b"" if request[0] == "HEAD" else request[1].encode())
        check_seen(running, mark, wanted)
        return
    if truncated:
        assert statuses in ([], [400], [408]), responses
    else:
        assert statuses == [200] * len(passed) + [verdict.status], responses
        assert verdict.reason.encode() in responses[-1].body, responses[-1].body
    check_seen(running, mark, passed)


@pytest.mark.parametrize("name,method,raw,closes,verdict", response_cases.CASES,
                         ids=[c[0] for c in response_cases.CASES])
def test_response(running, name, method, raw, closes, verdict):
    upstream = running.upstream
    target = "/case/" + name
    upstream.scripts[target] = (raw, closes)
    mark = upstream.mark()
    request = f"{method} {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n".encode()
    answer = harness.exchange(running.port, request, [method])
    assert answer.ended, f"the connection stays open: {answer.received!r}"
    if isinstance(verdict, response_cases.Cut) and answer.received.startswith(b"HTTP/1.1 502"):
        verdict = response_cases.bad()
    if isinstance(verdict, response_cases.Cut):
        assert answer.received.startswith(b"HTTP/1.1 %d" % verdict.status), answer.received
        # Whole it is only if read as delimited by the end: a framing field must forbid that.
        responses, _ = harness.read_responses(answer.received, [method], False)
        assert not responses, responses
        head = answer.received.partition(b"\r\n\r\n")[0].lower()
        assert b"\r\ncontent-length:" in head or b"\r\ntransfer-encoding:" in head, head
    else:
        responses, rest = answer.responses([method])
        assert not rest, f"left over: {rest!r}"
        assert len(responses) == 1, responses
        if isinstance(verdict, response_cases.Bad):
            assert responses[0].status == 502, responses
            assert b"smuggled" not in answer.received
        else:
            assert responses[0].status == verdict.status
            assert responses[0].body == verdict.body
            for field, value in verdict.fields.items():
                assert responses[0].values(field) == ([] if value is None else [value])

    # The next exchange gets its own answer, and over a connection that deserves it.
    after = f"GET /after/{name} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n".encode()
    responses, rest = harness.exchange(running.port, after, ["GET"]).responses(["GET"])
    assert [r.status for r in responses] == [200] and not rest, responses
    assert responses[0].body == b"/after/" + name.encode()
    seen, malformed = upstream.since(mark)
    assert not malformed, malformed
    used = {number for number, r in seen if r.target == target}
    later = {number for number, r in seen if r.target == "/after/" + name}
    assert len(later) == 1 and used, seen
    if isinstance(verdict, response_cases.Seen) and verdict.reuse:
        assert later <= used, "the connection was not used again"
    else:
        assert not later & used, "a connection that deserves no trust was used again"
