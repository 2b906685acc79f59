"""What the gateway counts, and how it tells: Prometheus text, read by Prometheus' own parser, and
JSON."""
import json
import signal

from prometheus_client.parser import text_string_to_metric_families

from gateway import run_gatehouse
from peers import answering
from waiting import eventually

METRICS = """
[route metrics]
listener = public
path     = /metrics
metrics  = {form}
"""


def scrape(gateway, *fields):
    """{(name, sorted labels): value} of all samples, after the parser took each line."""
    response = gateway.get("/metrics", *fields)
    assert response.status == 200
    assert response.get("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert response.get("Cache-Control") == "no-store"
    families = list(text_string_to_metric_families(response.body.decode()))
    names = [family.name for family in families]
    assert len(set(names)) == len(names), "each family stands in one piece"
    assert all(family.documentation and family.type != "unknown" for family in families), names
    samples = [sample for family in families for sample in family.samples]
    found = {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples}
    assert len(found) == len(samples), "no sample stands twice"
    return found


def value(samples, name, **labels):
    return samples[name, tuple(sorted(labels.items()))]


def test_counts_what_was_sent(proxy, upstream):
    server = upstream(answering(b"x" * 1000))
    config_tail = METRICS.format(form="on")
    gateway = proxy(server, route=config_tail, workers=2)
    for _ in range(7):
        assert gateway.get("/some").status == 200
    assert gateway.get("/metrics/none").status == 200
    samples = eventually(
        lambda: (lambda s: s if value(s, "gatehouse_requests_total", route="all",
                                      **{"class": "2xx"}) == 8 else None)(scrape(gateway)),
        "8 requests are counted")
    assert value(samples, "gatehouse_target_requests_total", upstream="app",
                 target=server.target.removeprefix("http://"), **{"class": "2xx"}) == 8
    assert value(samples, "gatehouse_upstream_requests_total", upstream="app",
                 **{"class": "2xx"}) == 8
    assert value(samples, "gatehouse_bytes_total", route="all", direction="out") > 8000
    assert value(samples, "gatehouse_worker_up", pool="default", worker="1") == 1
    assert value(samples, "gatehouse_series_refused_total") == 0
    assert value(samples, "gatehouse_start_time_seconds") > 1.6e9
    # Whoever asks has a connection open.
    assert value(samples, "gatehouse_listener_connections_active", listener="public") >= 1
    assert value(samples, "gatehouse_listener_connections_total", listener="public") >= 9


def test_a_route_called_none_is_not_that_of_unrouted_requests(gateway):
    running = gateway("""
[listener public]
address = 127.0.0.1:0
[route none]
path  = /here
reply = 200
""")
    with running.connect() as client:
        assert client.get("/here").status == 200
        assert client.get("/there").status == client.get("/there").status == 404
    metrics = running.metrics()
    assert metrics['gatehouse_requests_total{route="none",class="2xx"}'] == 1
    assert metrics['gatehouse_requests_total{route="none",class="4xx"}'] == 0
    assert metrics['gatehouse_requests_total{route="(none)",class="4xx"}'] == 2


def test_histograms_are_cumulative(proxy, upstream):
    gateway = proxy(upstream(), route=METRICS.format(form="prometheus"))
    for _ in range(5):
        gateway.get("/x")
    samples = scrape(gateway)
    buckets = [(float(dict(labels)["le"]), count) for (name, labels), count in samples.items()
               if name == "gatehouse_request_duration_seconds_bucket"
               and ("route", "all") in labels]
    buckets.sort()
    counts = [count for _, count in buckets]
    assert len(buckets) == 15 and buckets[-1][0] == float("inf")
    assert counts == sorted(counts) and counts[-1] == 5
    assert value(samples, "gatehouse_request_duration_seconds_count", route="all") == 5
    assert value(samples, "gatehouse_request_duration_seconds_sum", route="all") > 0


def test_reasons_are_counted_by_code(proxy, upstream):
    gateway = proxy(upstream(), route="path = /only\n" + METRICS.format(form="on"))
    assert gateway.get("/else").status == 404
    samples = scrape(gateway)
    assert value(samples, "gatehouse_listener_reasons_total", listener="public",
                 reason="no_route") == 1


def test_json_for_who_accepts_it(proxy, upstream):
    gateway = proxy(upstream(), route=METRICS.format(form="on"))
    gateway.get("/x")
    response = gateway.get("/metrics", "Accept: application/json")
    assert response.get("Content-Type") == "application/json"
    assert response.get("Vary") == "Accept"
    told = json.loads(response.body)
    route, = [r for r in told["routes"] if r["name"] == "all"]
    assert route["requests"]["2xx"] == 1 and sum(route["latency"]) == 1
    assert len(route["latency"]) == len(told["latency_bounds"]) + 1
    worker, = told["workers"]
    assert worker["pid"] == gateway.worker and worker["starts"] == 1
    assert "gatehouse_requests_total" in gateway.get("/metrics").body.decode()


def test_one_form_for_all(proxy, upstream):
    gateway = proxy(upstream(), route=METRICS.format(form="json"))
    assert json.loads(gateway.get("/metrics").body)["version"]


def test_only_reads_are_answered(proxy, upstream):
    gateway = proxy(upstream(), route=METRICS.format(form="on"))
    response = gateway.get("/metrics", method="POST")
    assert response.status == 405 and response.get("Allow") == "GET, HEAD"
    with gateway.connect() as client:
        head = client.get("/metrics", method="HEAD")
        assert head.status == 200 and int(head.get("Content-Length")) > 1000


def test_counts_outlive_a_killed_worker(proxy, upstream):
    gateway = proxy(upstream(), route=METRICS.format(form="on"))
    gateway.check_descriptors = False
    for _ in range(5):
        gateway.get("/x")
    client = gateway.connect()
    client.get("/x")
    # A response may arrive before its request is counted.
    eventually(lambda: gateway.counted() == 6, "6 requests are counted")
    before = gateway.worker
    gateway.wait_counted()
    gateway.send_signal(signal.SIGKILL, before)
    eventually(lambda: (gateway.workers() or [before])[0] != before, "the worker is replaced")
    samples = scrape(gateway)
    assert value(samples, "gatehouse_requests_total", route="all", **{"class": "2xx"}) == 6
    assert value(samples, "gatehouse_worker_starts_total", pool="default", worker="0") == 2
    # The dead worker's open connections are nobody's: what is open now is this very request's.
    assert value(samples, "gatehouse_listener_connections_active", listener="public") == 1


def test_more_names_than_room(gateway, upstream):
    server = upstream(answering(b"ok"))
    routes = "".join(f"[route r{n}]\nlistener = public\npath = /{n}\nupstream = app\n"
                     for n in range(80))
    one = gateway(f"[listener public]\naddress = 127.0.0.1:0\n[upstream app]\n"
                  f"target = {server.target}\n" + routes + METRICS.format(form="on"),
                  gatehouse="metric_series = 64")
    for n in range(80):
        assert one.get(f"/{n}").status == 200
    samples = scrape(one)
    assert value(samples, "gatehouse_series_used") == 64
    assert value(samples, "gatehouse_series_refused_total") > 0
    counted = sum(count for (name, labels), count in samples.items()
                  if name == "gatehouse_requests_total" and ("class", "2xx") in labels
                  and ("route", "metrics") not in labels)
    assert counted == 80
    assert value(samples, "gatehouse_requests_total", route="(other)", **{"class": "2xx"}) > 10


def test_a_route_has_one_action(folder):
    path = f"{folder}/two.conf"
    with open(path, "w") as file:
        file.write("[listener public]\naddress = 127.0.0.1:0\n"
                   "[route both]\nreply = 200\nmetrics = on\n")
    checked = run_gatehouse("-t", "-c", path)
    assert checked.returncode != 0 and f"{path}:" in checked.stderr
