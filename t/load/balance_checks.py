"""How a balancer spreads requests over targets, through a real gateway with several workers.

Each function returns one line of figures. `targets` are Fickles; the gateway's are the same in that
order, with the weights given.
"""
import math

from fickle import WELL
from keys import Keys, ask_keys, read_map
from traffic_gateway import TrafficGateway


def balanced(targets, balance, weights=None, upstream=""):
    weights = weights or [1] * len(targets)
    lines = "\n".join(f"target = {target.target} weight {weight}"
                      for target, weight in zip(targets, weights))
    return ("[listener public]\naddress = {address}\nkeepalive_requests = 0\n"
            f"[upstream app]\n{lines}\nbalance = {balance}\n{upstream}\n"
            "[route all]\nlistener = public\npath = /*\nupstream = app\n")


def chi_square(found, expected):
    return sum((f - e) ** 2 / e for f, e in zip(found, expected))


def critical(freedom, z=3.09):
    """What chi-square stays under in 999 of 1000 runs (Wilson and Hilferty's formula)."""
    return freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3


def counts(targets):
    return [target.stats()["requests"] for target in targets]


def begin(targets, behaviour=WELL):
    for target in targets:
        target.set(behaviour)
        target.reset()


def line(name, found, expected, workers):
    square, limit = chi_square(found, expected), critical(len(found) - 1)
    return (f"{name}, {workers} workers, {sum(found)} requests: {found}, expected"
            f" {[round(e) for e in expected]}, chi-square {square:.2f} (99.9 %: {limit:.2f})")


def all_answered(found, requests):
    assert found["statuses"] == {200: requests} and found["lost"] == 0, found


def spread(folder, targets, balance, *, workers, requests, weights=None, keys=1, sources=1, slack=None,
           path="/"):
    """Each target gets its share. `slack`: by how many requests it may differ from it, for what is no
    matter of chance; without, chance is what it must look like."""
    weights = weights or [1] * len(targets)
    begin(targets)
    with TrafficGateway(folder, balanced(targets, balance, weights), workers=workers, agent=False) as gateway:
        found = ask_keys(gateway.port, connections=50, requests=requests, keys=keys, sources=sources,
                         path=path)
    all_answered(found, requests)
    got = counts(targets)
    assert sum(got) == requests, got
    expected = [requests * weight / sum(weights) for weight in weights]
    text = line(balance if weights == [1] * len(targets) else f"{balance} weights {weights}",
                got, expected, workers)
    if slack is None:
        assert chi_square(got, expected) <= critical(len(got) - 1), text
    else:
        assert all(abs(g - e) <= slack for g, e in zip(got, expected)), text
    return text


def least_connections(folder, targets, *, workers, requests, connections=60):
    """The targets take different times, so that each must have as many requests at one time as the
    others. Fickle counts less than the gateway, which counts a request for longer; the delays are
    long beside what the rest of the way takes."""
    delays = [20 * (1 + number) for number in range(len(targets))]
    with TrafficGateway(folder, balanced(targets, "least_conn"), workers=workers, agent=False) as gateway:
        for target, delay in zip(targets, delays):
            target.set(f"answer 200 delay {delay}")
            target.reset()
        found = ask_keys(gateway.port, connections=connections, requests=requests)
    all_answered(found, requests)
    got, most = counts(targets), [target.stats()["most"] for target in targets]
    even = connections / len(targets)
    speed = sum(1 / delay for delay in delays)
    expected = [requests / delay / speed for delay in delays]
    text = (f"least_conn, {workers} workers, {connections} requests at a time, {requests} in all, targets that"
            f" take {delays} ms: at most {most} at one time ({even:.0f} each were even); {got} requests,"
            f" {[round(e) for e in expected]} by their speed")
    # Two workers that choose at the same moment may both take the same least.
    assert all(m <= math.ceil(even) + workers for m in most), text
    assert all(abs(g - e) <= 0.25 * e for g, e in zip(got, expected)), text
    return text


def least_time(folder, targets, *, workers, requests):
    """One target is slow: it gets a small share only, but not none for ever."""
    with TrafficGateway(folder, balanced(targets, "least_time"), workers=workers, agent=False) as gateway:
        begin(targets, "answer 200 delay 4")
        targets[0].set("answer 200 delay 80")
        found = ask_keys(gateway.port, connections=20, requests=requests)
    all_answered(found, requests)
    got = counts(targets)
    share = got[0] / requests
    text = (f"least_time, {workers} workers, {requests} requests, the first target takes 80 ms and the others"
            f" 4 ms: {got}, {share:.2%} to the slow one (an even share were {1 / len(targets):.0%})")
    assert 0 < share <= 0.5 / len(targets), text
    return text


def bounded_load(folder, targets, *, workers, requests, percent=125, connections=50):
    """All ask with one key: no target has more than so much of an even share at one time."""
    with TrafficGateway(folder, balanced(targets, f"hash $header_x_key load {percent}%"), workers=workers,
                        agent=False) as gateway:
        begin(targets, "answer 200 delay 5")
        found = ask_keys(gateway.port, connections=connections, requests=requests)
    all_answered(found, requests)
    got, most = counts(targets), [target.stats()["most"] for target in targets]
    share = math.ceil(connections / len(targets) * percent / 100)
    text = (f"hash, one key, load {percent}%, {workers} workers, {connections} requests at a time: {got}, at most"
            f" {most} at one time ({share} allowed)")
    # Two workers that choose at the same moment may both take the last place.
    assert max(most) <= share + workers and max(got) > min(got), text
    return text


def stability(folder, targets, balance, *, workers, keys):
    """Which keys move when a target leaves by a reload, and whether they come back with it."""
    n = len(targets)
    begin(targets)
    options = {"keys": keys, "requests": keys, "connections": 16, "depth": 1}
    with TrafficGateway(folder, balanced(targets, balance), workers=workers) as gateway:
        maps = []
        for step in ("all", "less", "all again"):
            if step != "all":
                gateway.reload(balanced(targets[1:] if step == "less" else targets, balance))
            name = f"{gateway.folder}/map-{step.replace(' ', '-')}"
            all_answered(ask_keys(gateway.port, map=name, **options), keys)
            maps.append(read_map(name))
    before, during, after = maps
    assert targets[0].name not in during
    gone = sum(name == targets[0].name for name in before)
    moved = sum(a != b for a, b in zip(before, during))
    back = sum(a == b for a, b in zip(before, after))
    got = [sum(name == target.name for name in before) for target in targets]
    text = (f"{balance}, {workers} workers, {keys} keys on {n} targets: {got}; one target leaves: {moved} keys"
            f" move ({moved / keys:.2%}; 1/n is {1 / n:.2%}, {gone} were its own); it comes back:"
            f" {keys - back} keys are elsewhere than before")
    assert moved <= keys * (1 / n + 0.05), text
    assert keys - back <= 0.05 * keys, text
    return text


def probes(folder, target, *, workers, allowed, seconds):
    """The target fails slowly, so that every trial after its breaker has opened is seen: there are
    never more at one time than the configuration allows, whichever worker makes them."""
    policy = f"breaker = failures 5, open 300ms probes {allowed}, close after 3"
    with TrafficGateway(folder, balanced([target], "round_robin", upstream=policy), workers=workers,
                        agent=False) as gateway:
        target.set("answer 500")
        found = ask_keys(gateway.port, connections=4 * workers, requests=200)
        assert 503 in found["statuses"], f"the breaker opens: {found}"
        target.set("answer 500 delay 100")
        target.reset()
        found = Keys(gateway.port, connections=16 * workers, rate=2000, seconds=seconds).result()
        stats = target.stats()
        target.set(WELL)
    text = (f"half-open, {workers} workers, {allowed} allowed: {found['sent']} requests in {seconds} s,"
            f" {stats['requests']} were let through, at most {stats['most']} at one time")
    assert 1 <= stats["most"] <= allowed, text
    assert stats["requests"] >= seconds, text
    return text
