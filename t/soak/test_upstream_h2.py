"""HTTP/2 upstreams that come and go under load: no answer is wrong or cut without the client seeing
it, requests that may be repeated succeed, and nothing is left behind."""
import os
import random
import threading
import time

import pytest

from gateway import proxy_config
from h2_server import speaking_h2
from peers import Gone
from tls_server import TlsParty, https

SECONDS = max(2, round(20 * float(os.environ.get("GATEHOUSE_SOAK", "1"))))


def body_of(path):
    return (path.encode() + b"|") * (1 + hash(path) % 400)


@pytest.mark.parametrize("secure", [False, True])
def test_targets_that_misbehave(gateway, upstream, folder, secure):
    party = TlsParty(folder)
    chance = random.Random(7)

    def handler(side, stream):
        dice = chance.random()
        number = stream.id
        if dice < 0.01:
            raise Gone(False)
        if dice < 0.03:
            side.reset(number, 7)
        elif dice < 0.04:
            side.goaway(number)
            side.respond(number, 200, body=body_of(stream.get(":path")))
        elif dice < 0.05:
            side.h2.send_headers(number, [(":status", "200")])
            side.h2.send_data(number, b"half")
            side.reset(number, 2)
        else:
            side.respond(number, 200, body=body_of(stream.get(":path")),
                         trailers=[("x-end", "1")] if dice < 0.3 else None)
    script = speaking_h2(handler)
    servers = [upstream(party.secure(None, h2=script) if secure else script) for _ in range(3)]
    targets = [https(one) if secure else one.target for one in servers]
    running = gateway(proxy_config(*targets, upstream="protocol = h2\nconnect_timeout = 1s\n"
                                   f"tls_ca = {party.ca}\nretry = 2 on connect reset budget 100%"),
                      workers=2)
    running.sent = None
    until = time.monotonic() + SECONDS
    wrong, counts, lock = [], {}, threading.Lock()

    def client(seed):
        own = random.Random(seed)
        while time.monotonic() < until:
            with running.connect() as connection:
                for _ in range(own.randrange(1, 40)):
                    path = f"/{own.randrange(1000)}"
                    try:
                        response = connection.get(path)
                    except Gone:
                        what = "gone"
                    else:
                        what = response.status if response.complete else "cut"
                        if what == 200 and response.body != body_of(path):
                            wrong.append((path, response.body[:100]))
                    with lock:
                        counts[what] = counts.get(what, 0) + 1
                    if what in ("gone", "cut"):
                        break
    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(counts)
    assert not wrong
    total = sum(counts.values())
    assert counts.get(200, 0) > 0.95 * total
    # Half an answer is the only thing that cannot be mended.
    assert sum(n for what, n in counts.items() if what not in (200, "cut", "gone")) < 0.01 * total
