"""conf/demo.conf on ports of its own: the page, the balance it shows, and the metrics it polls."""
import json
import os
import shutil
import socket

from waiting import eventually

CONF = os.path.join(os.path.dirname(__file__), "..", "..", "conf")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_the_demo(gateway, folder):
    with open(f"{CONF}/demo.conf") as file:
        text = file.read()
    for usual, free in zip(("8080", "8081", "8082"), free_ports(3)):
        assert f"127.0.0.1:{usual}" in text
        text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{free}")
    # The harness writes a [gatehouse] of its own.
    before, _, rest = text.partition("[gatehouse]")
    text = before + rest[rest.index("[workers"):]
    one = gateway(text, workers=None, start=False)
    shutil.copytree(f"{CONF}/demo", f"{one.folder}/demo")
    one.check_descriptors = False  # the demo's upstreams are the gateway itself: kept connections
    one.sent = None                # and count its requests twice
    one.start()

    page = one.get("/")
    assert page.status == 200 and page.get("Content-Type").startswith("text/html")
    assert b"<title>gatehouse" in page.body
    for outside in (b'src="http', b"@import", b'href="http', b"url(http"):
        assert outside not in page.body

    with one.connect() as client:
        answers = [client.get("/api/hello") for _ in range(8)]
    served = [json.loads(answer.body)["served_by"] for answer in answers]
    assert sorted(served) == ["alpha"] * 6 + ["beta"] * 2
    assert answers[0].get("X-Served-By") == served[0]
    assert one.get("/nowhere").code == "no_route"
    assert one.get("/down/").code == "upstream_connect_failed"
    assert one.get("/old").status == 301
    assert [one.get("/limited").status for _ in range(6)] == [200] * 5 + [429]

    def told():
        metrics = json.loads(one.get("/metrics.json").body)
        targets = {t["target"]: t["requests"]["2xx"] for t in metrics["targets"]
                   if t["upstream"] == "app"}
        # What the page looks for by name.
        names = {route["name"] for route in metrics["routes"]}
        assert {"api", "dashboard", "metrics", "metrics_json", "alpha", "beta"} <= names
        assert "demo" in {listener["name"] for listener in metrics["listeners"]}
        return sorted(targets.values()) == [2, 6]
    eventually(told, "the metrics show the balance")
    assert b"gatehouse_requests_total" in one.get("/metrics").body
