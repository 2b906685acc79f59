"""A worker at its limit turns requests away, cheaply, and takes them again."""
import threading

from gateway import SANITIZED, proxy_config, resident_bytes
from peers import answering
from waiting import eventually


def pool(settings):
    return f"\n[workers default]\n{settings}\n"


def quiet_route():
    return "\n[route quiet]\nlistener = public\npath = /quiet\nreply = 200 fine\n"


def test_over_its_memory_it_turns_requests_away(gateway, upstream):
    server = upstream(answering(b"ok"))
    one = gateway(proxy_config(server) + pool("memory_max = 64k") + quiet_route())
    with one.connect() as client:
        response = client.get("/")
        assert (response.status, response.code) == (503, "overload_memory")
        assert response.get("Retry-After") == "1"
        # What the gateway answers itself goes on being answered, on the same connection.
        assert client.get("/quiet").body == b"fine\n"
    assert not server.requests
    one.wait_log("more than memory_max")


def test_memory_that_is_given_back_ends_it(gateway, upstream):
    server = upstream(answering(b"ok"))
    one = gateway(proxy_config(server, listener="head_max = 32k"), start=False)
    one.write_config(proxy_config(server) + pool("memory_max = 1g"))
    one.start()
    # The first reload gives the worker a helper thread.
    one.check_descriptors = False
    resting = resident_bytes(one.worker)
    with one.connect() as client:
        assert client.get("/").status == 200
    # Far below what it uses, then far above: a reload changes the limit.
    one.write_config(proxy_config(server) + pool(f"memory_max = {resting // 2048}k"))
    one.send_signal(1)
    eventually(lambda: one.get("/").status == 503, "it turns requests away")
    one.write_config(proxy_config(server) + pool(f"memory_max = {resting // 1024 * 4}k"))
    one.send_signal(1)
    eventually(lambda: one.get("/").status == 200, "it takes requests again")


def test_without_a_limit_nothing_is_looked_at(gateway, upstream):
    one = gateway(proxy_config(upstream(answering(b"ok"))) + pool("connections_max = 100"))
    assert one.get("/").body == b"ok"


def test_a_busy_processor_turns_a_part_away(gateway, upstream):
    """Clients that ask as fast as they can keep the worker above one percent of a processor."""
    server = upstream(answering(b"x" * 2000))
    one = gateway(proxy_config(server) + pool("cpu_max = 1%"))
    stop = threading.Event()
    statuses = []

    def hammer():
        with one.connect() as client:
            while not stop.is_set():
                response = client.get("/")
                statuses.append(response.status)
                if response.status == 503:
                    assert response.code == "overload_cpu"
    threads = [threading.Thread(target=hammer) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: statuses.count(503) >= 50, "requests are turned away")
        ok = statuses.count(200)
        # Never all of them.
        eventually(lambda: statuses.count(200) > ok + 5, "some get through all the same")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200, 503}
    # The calm lets it take all requests again, after some seconds.
    eventually(lambda: all(one.get("/").status == 200 for _ in range(5)), "it takes all again")
    if not SANITIZED:
        one.wait_log("it turns requests away")
