"""The client that checks rate limits counts right, against a server that decides by script."""
import threading

from fickle import Fickle
from keys import ask_keys, read_map


def admitting(decide):
    """A script that answers 200 or 429 as decide(key) says."""
    def script(connection):
        while True:
            key = connection.read_request().get("X-Key")
            connection.answer(b"", status="200 OK" if decide(key) else "429 Too Many Requests")
    return script


def budget(most):
    """decide() that admits each key so often."""
    lock, admitted = threading.Lock(), {}

    def decide(key):
        with lock:
            admitted[key] = admitted.get(key, 0) + 1
            return admitted[key] <= most
    return decide


def test_it_counts_each_key(upstream):
    server = upstream(admitting(budget(2)))
    found = ask_keys(server.port, keys=40, requests=160, connections=4, depth=3)
    assert found["by_admitted"] == {2: 40}
    assert found["statuses"] == {200: 80, 429: 80}
    assert (found["sent"], found["answered"], found["lost"]) == (160, 160, 0)


def test_spans_of_time(upstream):
    """The server admits 20 at once and then nobody for a second."""
    server = upstream(admitting(budget(20)))
    found = ask_keys(server.port, connections=2, rate=200, seconds=1, window=300)
    assert 190 <= found["sent"] <= 200 and found["by_admitted"] == {20: 1}
    assert found["surely"] == 20 and found["at_least"] == 0


def test_a_steady_server(upstream):
    server = upstream(admitting(lambda key: True))
    found = ask_keys(server.port, connections=2, rate=200, seconds=1.5, window=500)
    assert 90 <= found["at_least"] and 80 <= found["surely"] <= 110, found


def test_what_is_lost(upstream):
    def script(connection):
        connection.read_request()
        connection.answer(b"")
        connection.read_request()
    server = upstream(script)
    found = ask_keys(server.port, connections=1, rate=100, seconds=0.5)
    assert found["lost"] == found["ends"] >= 2
    assert found["sent"] == found["answered"] + found["lost"]


def test_names(folder):
    with Fickle("one") as target:
        found = ask_keys(target.port, keys=3, requests=9, connections=2, map=f"{folder}/map")
    assert found["by_name"] == {"one": 9}
    assert read_map(f"{folder}/map") == ["one"] * 3
