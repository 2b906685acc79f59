#!/usr/bin/python3
"""Prints what nginx, HAProxy and gatehouse make of the smuggling corpus, side by side.

    GATEHOUSE=build/gatehouse t/e2e/smuggling/compare.py [--all] [--only NAME]

Each peer gets every case on a connection of its own, with the recording upstream behind it. A line
shows the statuses the client saw and the requests the upstream saw ("!" where the upstream was sent
something that is not in canonical form, "SMUGGLED" where /smuggled came through though it should
not). Without --all only the cases are printed in which some peer does otherwise than the verdict of
the corpus. A different answer is no fault by itself: the verdicts are gatehouse's own policy, which
is stricter than the RFCs ask for. The exit code is always 0.
"""
import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402
import request_cases  # noqa: E402
import response_cases  # noqa: E402

END = b"GET /end HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"

PATHS = "/usr/sbin:/usr/bin"

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 8m;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://up;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_request_buffering off;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 100
defaults
  mode http
  timeout connect 2s
  timeout client 2s
  timeout server 2s
  timeout http-request 2s
frontend in
  bind 127.0.0.1:{port}
  default_backend up
backend up
  http-reuse always
  server one 127.0.0.1:{upstream}
"""

GATEHOUSE = """
[gatehouse]
workers   = 1
shared_memory = 8m
control   = none
error_log = {folder}/gatehouse.log

[listener in]
address = 127.0.0.1:{port}

[route all]
listener = in
upstream = http://127.0.0.1:{upstream}
"""


class Peer:
    def __init__(self, name, config, command, folder):
        self.name = name
        self.upstream = harness.Upstream()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        path = os.path.join(folder, name + ".conf")
        with open(path, "w", encoding="utf-8") as out:
            out.write(config.format(folder=folder, port=self.port, upstream=self.upstream.port))
        log = open(os.path.join(folder, name + ".out"), "wb")
        self.process = subprocess.Popen([*command, path], stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log)
        for _ in range(250):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        with open(log.name, errors="replace", encoding="utf-8") as text:
            raise RuntimeError(f"{name} does not listen: {text.read()}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.upstream.close()


def statuses(answer, methods):
    try:
        responses, rest = answer.responses(methods)
    except harness.Malformed:
        return "malformed"
    text = " ".join(str(response.status) for response in responses)
    return (text or "-") + (" +left over" if rest else "") + ("" if answer.ended else " open")


def wanted_of(verdict):
    """(statuses or None for any, requests at the upstream)"""
    passed, codes = [], []
    if isinstance(verdict, request_cases.After):
        passed, verdict = verdict.requests, verdict.then
    if isinstance(verdict, request_cases.Refused):
        codes = [verdict.status]
    elif isinstance(verdict, request_cases.Passed):
        passed = passed + verdict.requests + ([] if verdict.closes else [("GET", "/end", b"")])
    else:
        codes = None
    requests = sorted((method, target, body) for method, target, body, *_ in passed)
    if codes is not None:
        codes = " ".join(str(code) for code in [200] * len(passed) + codes)
    return codes, requests, [request[0] for request in passed]


def run_request(peer, raw, verdict):
    codes, wanted, methods = wanted_of(verdict)
    mark = peer.upstream.mark()
    peer.upstream.forget_malformed()
    truncated = isinstance(verdict, request_cases.Dropped)
    answer = harness.exchange(peer.port, raw if truncated else raw + END, methods,
                              half_close=truncated, patience=3.0)
    seen, malformed = peer.upstream.since(mark)
    requests = sorted((r.method, r.target, r.body) for _, r in seen)
    got = statuses(answer, methods)
    text = got + " | " + " ".join(f"{m} {t}" for m, t, _ in requests)
    smuggled = "/smuggled" in {t for _, t, _ in requests} - {t for _, t, _ in wanted}
    text += (" !" if malformed else "") + (" SMUGGLED" if smuggled else "")
    return text, requests == wanted and codes in (None, got) and not malformed


def run_response(peer, name, method, raw, closes, verdict):
    target = "/case/" + name
    peer.upstream.scripts[target] = (raw, closes)
    mark = peer.upstream.mark()
    request = f"{method} {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n".encode()
    answer = harness.exchange(peer.port, request, [method], patience=3.0)
    got = statuses(answer, [method])
    after = f"GET /after/{name} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n".encode()
    try:
        responses, _ = harness.exchange(peer.port, after, ["GET"], patience=3.0).responses(["GET"])
        own = [r.body for r in responses] == [b"/after/" + name.encode()]
    except harness.Malformed:
        own = False
    seen, _ = peer.upstream.since(mark)
    used = {n for n, r in seen if r.target == target}
    reused = bool(used & {n for n, r in seen if r.target == "/after/" + name})
    text = got + (" reused" if reused else "") + ("" if own else " NEXT ANSWER IS WRONG")
    if isinstance(verdict, response_cases.Seen):
        return text, own and got == str(verdict.status) and reused == verdict.reuse
    if isinstance(verdict, response_cases.Bad):
        return text, own and got == "502" and not reused
    return text, own and (got == "502" or got.startswith("-")) and not reused


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true",
                        help="print the cases without a difference too")
    parser.add_argument("--only", help="cases whose name holds this")
    options = parser.parse_args()
    peers = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, program, config, arguments in [
                    ("nginx", shutil.which("nginx", path=PATHS), NGINX, ["-c"]),
                    ("haproxy", shutil.which("haproxy", path=PATHS), HAPROXY, ["-db", "-f"]),
                    ("gatehouse", os.environ.get("GATEHOUSE"), GATEHOUSE, ["--foreground", "-c"])]:
                if not program:
                    print(f"{name}: not found, left out")
                    continue
                peers.append(Peer(name, config, [program, *arguments], folder))
            compare(peers, options)
        finally:
            for peer in peers:
                peer.stop()


def compare(peers, options):
    counts = {peer.name: [0, 0] for peer in peers}
    rows = [(name, verdict, lambda peer, raw=raw, verdict=verdict: run_request(peer, raw, verdict))
            for name, raw, verdict in request_cases.CASES]
    rows += [("response " + name, verdict,
              lambda peer, name=name, method=method, raw=raw, closes=closes, verdict=verdict:
              run_response(peer, name, method, raw, closes, verdict))
             for name, method, raw, closes, verdict in response_cases.CASES]
    for name, verdict, run in rows:
        if options.only and options.only not in name:
            continue
        results = [(peer, *run(peer)) for peer in peers]
        for peer, text, same in results:
            counts[peer.name][0] += same
            counts[peer.name][1] += "SMUGGLED" in text or "WRONG" in text
        if options.all or not all(same for _, _, same in results):
            print(name)
            for peer, text, same in results:
                print(f"    {peer.name:10} {'as wanted' if same else 'otherwise':10} {text}")
            sys.stdout.flush()
    for name, (same, critical) in counts.items():
        print(f"{name}: {same} of {len(rows)} as gatehouse's verdicts, "
              f"{critical} with /smuggled or a wrong answer let through")


if __name__ == "__main__":
    main()
