"""Starts, inspects and stops what the benchmark compares: gatehouse, nginx, HAProxy, the forwarder.

Each proxy gets one worker, a directory of its own under one temporary directory, a port that was free
a moment ago, and core 0; the upstream gets core 1. What nginx and HAProxy are told here is what their
manuals advise for a fast reverse proxy: a comparison with a peer that was set up badly is worth nothing.

Guarantees: a process started here ends with the `Stage` it belongs to, also on an exception, Ctrl-C or
SIGTERM, and by the kernel's hand (PDEATHSIG) if the harness itself is killed; only processes started
here and their descendants are ever signalled. Leaves out: measuring (see run, syscalls, idle_memory).
"""
import atexit
import contextlib
import ctypes
import json
import os
import random
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
_BUILD = os.environ.get("GATEHOUSE_BUILD", os.path.join(ROOT, "build"))
BUILD = os.path.join(_BUILD, "bench")
DEFAULT_GATEHOUSE = os.environ.get("GATEHOUSE", os.path.join(_BUILD, "gatehouse"))
PROXY_CORE, LOAD_CORE = 0, 1
PROGRAMS = ("load", "upstream", "forwarder")
PACKAGES = {"nginx": "nginx", "haproxy": "haproxy", "strace": "strace", "valgrind": "valgrind", "openssl": "openssl"}
START_SECONDS = 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_CORES = os.sched_getaffinity(0)  # before a Stage puts this script on core 1


class BenchError(Exception):
    """Something that makes the measurement impossible or worthless; the text is for the user."""


def build_programs():
    """Compiles load, upstream and forwarder into build/bench where they are older than their sources."""
    os.makedirs(BUILD, exist_ok=True)
    header = os.path.join(HERE, "net.h")
    for name in PROGRAMS:
        source, target = os.path.join(HERE, name + ".cc"), os.path.join(BUILD, name)
        newest = max(os.path.getmtime(source), os.path.getmtime(header))
        if os.path.exists(target) and os.path.getmtime(target) > newest:
            continue
        libraries = ["-lssl", "-lcrypto"] if name == "load" else []
        subprocess.run([os.environ.get("CXX", "g++"), "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror",
                        "-o", target, source, *libraries], check=True)


def find_program(name):
    """The path of a peer or tool, or an error that says how to install it."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise BenchError(f"{name} is not installed: apt-get install --no-install-recommends "
                         f"{PACKAGES[name]}   (or leave it out with --only)")
    return path


def check_machine():
    if not {PROXY_CORE, LOAD_CORE} <= _CORES:
        raise BenchError("two cores are needed: core 0 for the proxy, core 1 for load and upstream")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


_ports_given = set()


def free_port():
    """A free port below the range the kernel takes clients' ports from, so that it stays free."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        top = int(f.read().split()[0])
    for _ in range(1000):
        port = random.randrange(10240, max(top, 20000))
        if port in _ports_given:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                s.bind(("127.0.0.1", port))
                _ports_given.add(port)
                return port
    raise BenchError("no free port found")


def open_connection(port, tls=False):
    sock = socket.create_connection(("127.0.0.1", port), 2)
    if not tls:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)


def make_certificate(directory):
    """A self-signed ECDSA P-256 certificate: (path of the certificate, of the key, of both)."""
    paths = [os.path.join(directory, name) for name in ("cert.pem", "key.pem", "both.pem")]
    subprocess.run([find_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=bench.example", "-days", "2",
                    "-addext", "subjectAltName=DNS:bench.example", "-keyout", paths[1],
                    "-out", paths[0]], check=True, capture_output=True)
    with open(paths[2], "w") as both:
        for path in paths[:2]:
            with open(path) as part:
                both.write(part.read())
    return paths


# --- processes ----------------------------------------------------------------------------------


def spawn(command, core, **kwargs):
    def prepare():
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os.sched_setaffinity(0, {core})
    return subprocess.Popen(command, preexec_fn=prepare, start_new_session=True,
                            stdin=subprocess.DEVNULL, **kwargs)


def family(pid):
    """`pid` and all its living descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = stat_fields(int(entry))
                if fields[0] != "Z":
                    children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        p = todo.pop()
        found.append(p)
        todo += children.get(p, [])
    return sorted(found)


def stat_fields(pid):
    """The fields of /proc/PID/stat from the third (state) on; the second may contain spaces."""
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()


def user_system_seconds(pids):
    """(user, system) as the kernel's tick sampling splits the exact total; 10 ms steps."""
    hz = os.sysconf("SC_CLK_TCK")
    fields = [stat_fields(p) for p in pids]
    return sum(int(f[11]) for f in fields) / hz, sum(int(f[12]) for f in fields) / hz


def memory_bytes(pids):
    """(PSS, RSS) of all processes in `pids`."""
    pss = rss = 0
    for p in pids:
        with open(f"/proc/{p}/smaps_rollup") as f:
            for line in f:
                if line.startswith("Pss:"):
                    pss += int(line.split()[1]) * 1024
                elif line.startswith("Rss:"):
                    rss += int(line.split()[1]) * 1024
    return pss, rss


class Process:
    """One program of the stage with its descendants, its log and its port."""
    tls = False

    def __init__(self, name, command, core, directory, port=None):
        self.name, self.core, self.directory, self.port = name, core, directory, port
        self.log = os.path.join(directory, "output")
        self.access_log = None
        self.command = command
        with open(self.log, "wb") as out:
            # A program that is not told its port prints it: then its standard output is a pipe.
            self.popen = spawn(command, core, cwd=directory, stderr=out,
                               stdout=subprocess.PIPE if port is None else out)
        if port is None:
            line = self.popen.stdout.readline().split()
            if len(line) != 2:
                raise BenchError(f"{name} did not start: {self.tail()}")
            self.port = int(line[1])

    def tail(self):
        with open(self.log, errors="replace") as f:
            return f.read()[-1500:].strip() or "(it said nothing)"

    def wait_ready(self, path="/128", host="127.0.0.1"):
        """Seconds from now until a request is answered with 200; raises when that does not come."""
        start = time.monotonic()
        while time.monotonic() - start < START_SECONDS:
            if self.popen.poll() is not None:
                raise BenchError(f"{self.name} ended with {self.popen.returncode}: {self.tail()}")
            with contextlib.suppress(OSError), \
                    open_connection(self.port, self.tls) as s:
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                if s.recv(65536).startswith(b"HTTP/1.1 200"):
                    return time.monotonic() - start
            time.sleep(0.002)
        raise BenchError(f"{self.name} answers no request after {START_SECONDS} s: {self.tail()}")

    def pids(self):
        return family(self.popen.pid)

    def check_cores(self):
        for pid in self.pids():
            if os.sched_getaffinity(pid) != {self.core}:
                raise BenchError(f"{self.name}: process {pid} left core {self.core}")

    def stop(self):
        pids = self.pids() if self.popen.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            if pids:
                self.popen.terminate()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for pid in pids[1:]:
            # Only what is still in the session we made: the number may have been given away.
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) == self.popen.pid:
                    os.kill(pid, signal.SIGKILL)
        if self.popen.stdout:
            self.popen.stdout.close()


class Stage:
    """A temporary directory and the processes in it; `with Stage() as stage:`."""

    def __init__(self, gatehouse=DEFAULT_GATEHOUSE, keep=False):
        self.gatehouse, self.keep = os.path.abspath(gatehouse), keep
        self.directory, self.processes, self.count = None, [], 0

    def __enter__(self):
        check_machine()
        build_programs()
        os.sched_setaffinity(0, {LOAD_CORE})
        self.directory = tempfile.mkdtemp(prefix="gatehouse-bench-")
        os.chmod(self.directory, 0o755)  # workers that dropped root still have to reach their files
        atexit.register(self.close)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for p in reversed(self.processes):
            p.stop()
        self.processes = []
        if self.directory and self.keep:
            print(f"kept: {self.directory}")
        elif self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.directory = None

    def end(self, *processes):
        for p in processes:
            p.stop()
            self.processes.remove(p)

    def subdirectory(self, name):
        self.count += 1
        path = os.path.join(self.directory, f"{self.count}-{name}")
        os.mkdir(path)
        return path

    def _start(self, name, command, core, directory, port=None):
        p = Process(name, command, core, directory, port)
        self.processes.append(p)
        return p

    def start_upstream(self):
        return self._start("upstream", [os.path.join(BUILD, "upstream")], LOAD_CORE,
                           self.subdirectory("upstream"))

    def start_proxy(self, name, upstream_port, log=False, config=None, prefix=()):
        """Starts the proxy called `name` (a key of PROXIES), by the command `prefix` where there is one.
        `config` replaces its routing: for gatehouse the text of the [route] sections, for nginx (text of
        locations, [(host, location)])."""
        if name not in PROXIES:
            raise BenchError(f"no proxy is called {name}: there are {', '.join(PROXIES)}")
        kind, variant = PROXIES[name]
        directory = self.subdirectory(name)
        if kind == "forwarder":
            command = [os.path.join(BUILD, "forwarder"), f"--upstream={upstream_port}"]
            return self._start(name, command, PROXY_CORE, directory)
        port = free_port()
        access_log = os.path.join(directory, "access.log") if log else None
        tls = name.endswith("-tls")
        if tls:
            make_certificate(directory)
        if kind == "gatehouse":
            if not os.access(self.gatehouse, os.X_OK):
                raise BenchError(f"{self.gatehouse} is missing: run make first, or name another with "
                                 "--gatehouse, or leave it out with --only")
            path = write(directory, "gatehouse.conf",
                         gatehouse_config(directory, port, upstream_port, access_log, variant, config)
                         .replace("{directory}", directory))
            command = [self.gatehouse, "--foreground", "-c", path]
        elif kind == "nginx":
            path = write(directory, "nginx.conf",
                         nginx_config(directory, port, upstream_port, access_log, variant, config)
                         .replace("{directory}", directory)
                         .replace("backlog=4096", "ssl backlog=4096" if tls else "backlog=4096"))
            command = [find_program("nginx"), "-p", directory, "-c", path, "-e", "stderr"]
        else:
            path = write(directory, "haproxy.cfg", haproxy_config(port, upstream_port, log, variant)
                         .replace("{directory}", directory))
            command = [find_program("haproxy"), "-db", "-f", path]
            access_log = os.path.join(directory, "output") if log else None
        p = self._start(name, [*prefix, *command], PROXY_CORE, directory, port)
        p.config, p.access_log, p.tls = path, access_log, tls
        return p


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as f:
        f.write(text)
    return path


# --- configurations -----------------------------------------------------------------------------

# Limits that nobody meets: what they cost is counting, not refusing. HAProxy counts before it decides.
GATEHOUSE_LIMIT = "[limit per_client]\nkey = client_address\nrate = 1000000/1s burst 1000000\n"
GATEHOUSE_BREAKER = "breaker = failures 5 or 50% of 20 in 10s, open 60s, close after 3"
NGINX_LIMIT = ("limit_req_zone $binary_remote_addr zone=per_client:10m rate=1000000r/s; "
               "limit_req zone=per_client burst=1000000 nodelay;")
HAPROXY_LIMIT = """frontend
  stick-table type ip size 100k expire 30s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 10000000 }"""

# Of each proxy's variants the best of those tried (README.md has the list). gatehouse's are {place: text}
# (a whole section, or lines of the route or of the upstream), nginx's are lines of its http section,
# HAProxy's are lines of its global section, of its defaults where an option, or of its frontend.
PROXIES = {
    "gatehouse": ("gatehouse", {}),
    "gatehouse-limit": ("gatehouse", {"sections": GATEHOUSE_LIMIT, "route": "limit = per_client"}),
    "gatehouse-breaker": ("gatehouse", {"upstream": GATEHOUSE_BREAKER}),
    "gatehouse-both": ("gatehouse", {"sections": GATEHOUSE_LIMIT, "route": "limit = per_client",
                                     "upstream": GATEHOUSE_BREAKER}),
    "nginx": ("nginx", ""),
    "nginx-limit": ("nginx", NGINX_LIMIT),
    "nginx-16k": ("nginx", "proxy_buffer_size 16k; proxy_buffers 8 16k;"),
    "nginx-64k": ("nginx", "proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_max_temp_file_size 0;"),
    "nginx-stream": ("nginx", "proxy_buffering off; proxy_buffer_size 32k; proxy_buffers 8 32k;"),
    "haproxy": ("haproxy", ""),
    "haproxy-limit": ("haproxy", HAPROXY_LIMIT),
    "haproxy-64k": ("haproxy", "tune.bufsize 65536"),
    "haproxy-splice": ("haproxy", "option splice-response"),
    "forwarder": ("forwarder", ""),
    # With TLS; {directory} is the proxy's, with cert.pem, key.pem and both.pem.
    "gatehouse-tls": ("gatehouse", {"listener": "tls = on", "sections":
                                    "[certificate bench]\ncertificate = {directory}/cert.pem\n"
                                    "key = {directory}/key.pem\n"}),
    "nginx-tls": ("nginx", "ssl_certificate {directory}/cert.pem; ssl_certificate_key {directory}/key.pem; "
                           "ssl_protocols TLSv1.2 TLSv1.3; ssl_session_timeout 1h; ssl_session_tickets on; "
                           "ssl_buffer_size 16k;"),
    "haproxy-tls": ("haproxy", "bind ssl crt {directory}/both.pem alpn http/1.1"),
}


def gatehouse_config(directory, port, upstream_port, access_log, variant, routes=None):
    log = f"[log access]\nfile = {access_log}\nformat = combined\n" if access_log else ""
    return f"""\
[gatehouse]
workers = 1
error_log = stderr warn
pid_file = {directory}/gatehouse.pid
control = {directory}/control.sock
[listener bench]
address = 127.0.0.1:{port}
{variant.get("listener", "")}
{log}[upstream app]
target = http://127.0.0.1:{upstream_port}
{variant.get("upstream", "")}
{variant.get("sections", "")}
{routes or "[route app]" + chr(10) + "path = /*" + chr(10) + "upstream = app"}
{variant.get("route", "")}
"""


def nginx_config(directory, port, upstream_port, access_log, variant, routes=None):
    log = f"{access_log} combined buffer=64k flush=1s" if access_log else "off"
    locations, hosts = routes or ("location / { proxy_pass http://app; }", [])
    servers = "\n".join(f"  server {{\n    listen 127.0.0.1:{port};\n    server_name {host};\n    {location}  }}"
                        for host, location in hosts)
    temp = "\n".join(f"  {m}_temp_path {directory}/{m};"
                     for m in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""\
daemon off;
worker_processes 1;
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[1]};
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 12000; multi_accept on; }}
http {{
{temp}
  access_log {log};
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  upstream app {{
    server 127.0.0.1:{upstream_port};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  server_names_hash_max_size 16384;
  {variant}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    {locations}
  }}
{servers}
}}
"""


def haproxy_config(port, upstream_port, log, variant):
    # HAProxy writes each log line by itself: it has no buffered file log (a ring's backing file is a
    # dump of memory, not a log). Its figure with the log on is that of one write per request.
    place = variant.split()[0] if variant.startswith(("option", "frontend", "bind")) else "global"
    return f"""\
global
  nbthread 1
  no strict-limits
  maxconn 12000
  {variant if place == "global" else ""}
  {"log stdout format raw local0" if log else ""}
defaults
  mode http
  {"log global" if log else "no log"}
  {"option httplog" if log else ""}
  {variant if place == "option" else ""}
  option http-keep-alive
  http-reuse always
  timeout connect 10s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
frontend bench
  bind 127.0.0.1:{port} backlog 4096 {variant[5:] if place == "bind" else ""}
  {variant.partition(chr(10))[2] if place == "frontend" else ""}
  default_backend app
backend app
  server app 127.0.0.1:{upstream_port} pool-max-conn 512 pool-purge-delay 600s
"""


# --- load ---------------------------------------------------------------------------------------


def run_load(port, *arguments, timeout):
    """Runs one load and gives what it measured; a round with a failed request is refused."""
    command = [os.path.join(BUILD, "load"), f"--port={port}", *arguments]
    load = spawn(command, LOAD_CORE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = load.communicate(timeout=timeout)
    except BaseException:
        load.kill()
        load.wait()
        raise
    if load.returncode != 0:
        raise BenchError(f"the load failed: {err.strip()}")
    result = json.loads(out)
    for kind in ("bad_status", "broken", "connect_errors"):
        if result[kind]:
            raise BenchError(f"{result[kind]} requests failed ({kind}) of {result['requests']}")
    return result
