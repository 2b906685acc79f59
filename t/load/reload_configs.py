"""Configurations that change all that a reload can change, for gatehouse and for nginx.

Variant N of a Scene has the marker N on the route /generation, and from N follow the number of
workers, the pools, the listeners besides the main one, the targets of the upstream and the routes.
It all repeats after PERIOD variants, so that two moments that far apart can be compared.
"""
import os
import random
import socket

PERIOD = 12
_given = set()


def free_port():
    """A port below those that the kernel gives to clients, so that nobody takes it meanwhile."""
    while True:
        port = random.randrange(12000, 32000)
        if port in _given:
            continue
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


class Scene:
    """`servers`: three LoadUpstreams. The clients use self.port in every variant."""

    def __init__(self, servers):
        self.servers = servers
        self.port, self.probes, self.watch = free_port(), (free_port(), free_port()), free_port()

    def workers(self, n):
        return (2, 3, 1)[n % 3]

    def pool(self, n):
        """Workers of the second pool; 0: there is none."""
        return (0, 1, 2, 1)[n % 4]

    def open_probes(self, n):
        """Which of the other ports are listened on: none, one, the other one, both."""
        first, second = self.probes
        return ((), (first,), (second,), (first, second))[n % 4]

    def targets(self, n):
        first, second, third = self.servers
        return ((first,), (first, second), (second, third))[n % 3]

    def extra_routes(self, n):
        return [(f"extra-{n % 6}-{i}", f"/extra/{n % 6}/{i}") for i in range(n % 6 * 5)]

    def gatehouse(self, n, extra=""):
        text = f"workers = {self.workers(n)}\n"
        if self.pool(n):
            text += f"\n[workers egress]\ncount = {self.pool(n)}\n"
        text += f"\n[listener main]\naddress = 127.0.0.1:{self.port}\nkeepalive_requests = 0\n"
        if self.open_probes(n):
            # The second pool takes over what the first one had, and gives it back.
            text += "\n[listener probe]\n" + ("pool = egress\n" if n % 4 != 1 else "")
            text += "".join(f"address = 127.0.0.1:{port}\n" for port in self.open_probes(n))
        text += (f"\n[listener watch]\naddress = 127.0.0.1:{self.watch}\n"
                 "\n[route watch]\nlistener = watch\npath = /watch\nmetrics = prometheus\n"
                 "log = off\n")
        text += "\n[upstream app]\n"
        text += "".join(f"target = {server.target}\n" for server in self.targets(n))
        text += f"keepalive = {(256, 64)[n % 2]}\n"
        text += "\n[route all]\npath = /*\nupstream = app\n"
        text += f"\n[route generation]\npath = /generation\nreply = 200 {n}\n"
        for name, path in self.extra_routes(n):
            text += f"\n[route {name}]\npath = {path}\nreply = 200 {name}\n"
        return text + extra

    def nginx(self, n, folder):
        """The same for nginx, whose workers are of one pool. Everything is as its manual advises
        for a reverse proxy of WebSockets."""
        servers = "\n".join(f"    server 127.0.0.1:{s.port};" for s in self.targets(n))
        listen = "\n".join(f"    listen 127.0.0.1:{port};"
                           for port in (self.port, *self.open_probes(n)))
        extra = "\n".join(f"    location = {path} {{ return 200 {name}; }}"
                          for name, path in self.extra_routes(n))
        return f"""
daemon off;
{"user root;" if os.geteuid() == 0 else ""}
worker_processes {self.workers(n)};
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream app {{
{servers}
    keepalive {(256, 64)[n % 2]};
  }}
  server {{
{listen}
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_read_timeout 1h;
    }}
    location = /generation {{ return 200 "{n}"; }}
{extra}
  }}
}}
"""


def many_routes(count, marker):
    """Routes of all kinds, for a configuration that takes its time; the marker changes each."""
    routes = []
    for i in range(count):
        path = (f"/v{marker}/item{i}", f"/v{marker}/{{id}}/item{i}", f"/v{marker}/item{i}/*")[i % 3]
        routes.append(f"\n[route many-{i}]\nhost = h{i % 100}.example\npath = {path}\n"
                      f"header = X-Kind: {i % 7}\nreply = 200 $route\n")
    return "".join(routes)
