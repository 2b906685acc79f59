"""gatehouse, nginx and HAProxy in front of the same three targets, each as its manual advises for
targets that may fail, with equal timeouts.

    with GatehousePeer(folder, targets) as peer:     # the same for NginxPeer and HaproxyPeer
        peer.port                                    # where it listens; it answers by then

    connecting to a target   0.3 s       an answer of a target    1 s
    tries of a request       3           a check of the health    each second, or as it can
"""
import os
import shutil
import socket
import subprocess

from reload_configs import free_port
from traffic_gateway import TrafficGateway
from waiting import eventually

CONNECT_MS, ANSWER_MS, TRIES = 300, 1000, 3

GATEHOUSE_UPSTREAM = f"""\
balance = least_conn
connect_timeout = {CONNECT_MS}ms
try_timeout = {ANSWER_MS}ms
health = GET /healthz every 1s timeout 500ms expect 200 rise 2 fall 2
breaker = failures 5 or 50% of 20 in 10s or slow 80% over 250ms, open 500ms max 10s, close after 3
retry = {TRIES - 1} on connect timeout reset bad_response 500 502 503 504 budget 20%
"""


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            sock.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def server_lines(targets, form):
    return "\n".join(form.format(name=target.name, address=target.address) for target in targets)


class Peer:
    """A program that runs in the foreground, in a folder of its own."""

    program = None

    def __init__(self, folder, targets):
        self.folder = os.path.join(folder, self.name)
        os.mkdir(self.folder)
        self.port = free_port()
        self.config = os.path.join(self.folder, "config")
        with open(self.config, "w") as file:
            file.write(self.text(targets))
        path = shutil.which(self.program, path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
        assert path, f"{self.program} is not installed"
        with open(f"{self.folder}/output", "wb") as output:
            self.process = subprocess.Popen([path, *self.arguments()], stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=output, start_new_session=True)
        eventually(lambda: answers(self.port), lambda: f"{self.name} answers\n{self.said()}", 10)

    def said(self):
        with open(f"{self.folder}/output", errors="replace") as file:
            return file.read()[-2000:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class NginxPeer(Peer):
    """A target that fails five times within two seconds is left alone for two seconds. (Tried: twice,
    which is worse where all fail a little.) nginx has no checks of its own."""

    name = program = "nginx"

    def arguments(self):
        return ["-p", self.folder, "-c", self.config, "-e", "stderr"]

    def text(self, targets):
        servers = server_lines(targets, "    server {address} max_fails=5 fail_timeout=2s;")
        temp = "\n".join(f"  {kind}_temp_path {self.folder}/{kind};"
                         for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return f"""
daemon off;
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 2;
pid {self.folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
{temp}
  access_log off;
  keepalive_requests 1000000000;
  upstream app {{
    zone app 256k;
    least_conn;
{servers}
    keepalive 256;
  }}
  server {{
    listen 127.0.0.1:{self.port};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_connect_timeout {CONNECT_MS}ms;
      proxy_send_timeout {ANSWER_MS}ms;
      proxy_read_timeout {ANSWER_MS}ms;
      proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504;
      proxy_next_upstream_tries {TRIES};
    }}
  }}
}}
"""


class HaproxyPeer(Peer):
    """Checks each second, faster when something changes; ten failures in a row seen by the traffic mark
    a target down at once, and the checks raise it again. (Tried: two, which makes more answers slow.)"""

    name = program = "haproxy"

    def arguments(self):
        return ["-db", "-f", self.config]

    def text(self, targets):
        servers = server_lines(targets, "  server {name} {address}")
        return f"""
global
  nbthread 2
  maxconn 4096
  no strict-limits
defaults
  mode http
  no log
  option http-keep-alive
  http-reuse always
  timeout client 30s
  timeout http-keep-alive 30s
  timeout connect {CONNECT_MS}ms
  timeout server {ANSWER_MS}ms
  timeout queue {ANSWER_MS}ms
frontend public
  bind 127.0.0.1:{self.port}
  default_backend app
backend app
  balance leastconn
  option httpchk
  http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host x
  http-check expect status 200
  timeout check 500ms
  retries {TRIES - 1}
  option redispatch 1
  retry-on all-retryable-errors 500 502 503 504
  default-server check inter 1s fastinter 500ms downinter 1s rise 2 fall 2
  default-server observe layer7 error-limit 10 on-error mark-down
{servers}
"""


class GatehousePeer(TrafficGateway):
    """`upstream`: other lines of [upstream app] than those above."""

    name = "gatehouse"

    def __init__(self, folder, targets, upstream=GATEHOUSE_UPSTREAM):
        lines = server_lines(targets, "target = http://{address}")
        super().__init__(folder, "[listener public]\naddress = {address}\nkeepalive_requests = 0\n"
                         f"[upstream app]\n{lines}\n{upstream}\n"
                         "[route all]\nlistener = public\npath = /*\nupstream = app\n")

    def start(self):
        super().start()
        eventually(lambda: answers(self.port), lambda: "gatehouse answers\n" + self.gateway.log(), 10)
        return self


class HedgingPeer(GatehousePeer):
    """With a second try beside one that takes long, which the others have not."""

    name = "gatehouse + hedge"

    def __init__(self, folder, targets):
        super().__init__(folder, targets, GATEHOUSE_UPSTREAM + "hedge = after 50ms\n")


PEERS = (GatehousePeer, HedgingPeer, NginxPeer, HaproxyPeer)
