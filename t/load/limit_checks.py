"""What a rate limit admitted, against what it allows: for short and for long tests.

Each function runs a gateway whose workers all decide about the same keys, and returns one line of
figures; it fails where the figures are not what they have to be.
"""
import time

from keys import Keys, ask_keys
from traffic_gateway import TrafficGateway


def limited(limit):
    """A configuration: each request is answered by the gateway itself, where the limit admits it."""
    return ("[listener public]\naddress = {address}\nkeepalive_requests = 0\n"
            f"[limit keys]\nkey = header_x_key\n{limit}\n"
            "[route all]\nlistener = public\npath = /*\nlimit = keys\nreply = 200 ok\n")


def only_limits(found):
    """Everything was answered, with an admission or a refusal."""
    assert found["lost"] == 0 and found["sent"] == found["answered"], found
    assert set(found["statuses"]) <= {200, 429}, found
    return found["statuses"].get(200, 0)


def bucket(folder, *, workers, rate, burst, seconds):
    """One key, asked as fast as all workers answer."""
    with TrafficGateway(folder, limited(f"rate = {rate}/1s burst {burst}"), workers=workers) as gateway:
        began = time.monotonic()
        found = ask_keys(gateway.port, connections=16 * workers, seconds=seconds)
        passed = time.monotonic() - began
    admitted = only_limits(found)
    # The bucket was full when the first was asked. Nothing after the last answer, nothing before the
    # program began; and the workers read their clocks once a turn.
    most = burst + rate * passed
    least = burst + rate * (seconds - 0.1) - 1
    assert least <= admitted <= most, f"{admitted} admitted, {least:.0f} to {most:.0f} allowed: {found}"
    assert admitted <= burst + rate * found["seconds"] + 1, found
    return (f"token bucket, {rate}/1s burst {burst}, {workers} workers, one key: {found['sent']} requests in"
            f" {found['seconds']:.3f} s, {admitted} admitted,"
            f" {burst + rate * found['seconds']:.1f} allowed in that time")


def pieces_of(count):
    """Into how many pieces a window of so many requests is cut (src/core/limit_state.h)."""
    width = count.bit_length()
    return max(c for c in range(1, 9) if (c + 1) * width <= 38)


def window(folder, *, workers, count, period_ms, seconds):
    """One key, asked as fast as all workers answer: no span of the period has more than the bound."""
    with TrafficGateway(folder, limited(f"rate = {count}/{period_ms}ms"), workers=workers) as gateway:
        found = ask_keys(gateway.port, connections=8 * workers, seconds=seconds, window=period_ms)
    admitted = only_limits(found)
    bound = count + -(-count // pieces_of(count))
    assert found["surely"] <= bound, found
    # Under a load that always asks, the limit is used and not only kept.
    even = count * found["seconds"] * 1000 / period_ms
    assert 0.8 * even <= admitted <= bound + even, found
    return (f"window, {count}/{period_ms}ms, {workers} workers, one key: {found['sent']} requests in"
            f" {found['seconds']:.3f} s, {admitted} admitted ({even:.0f} by the rate); surely in one window"
            f" at most {found['surely']} (bound {bound})")


def many_keys(folder, *, workers, keys, burst, room=1.0, more=1, shared_memory="128m"):
    """Each key is asked burst + more times; nothing comes back within the test. `room`: for how many
    times the keys there is room; with 1 some find their set full, and the oldest budget gives way."""
    def text(keys_max):
        return limited(f"rate = 1/1d burst {burst}\nkeys_max = {keys_max}")
    with TrafficGateway(folder, text(64), workers=workers, shared_memory=shared_memory) as gateway:
        empty = gateway.segment_bytes()
    with TrafficGateway(folder, text(round(keys * room)), workers=workers,
                        shared_memory=shared_memory) as gateway:
        found = ask_keys(gateway.port, connections=64, depth=16, keys=keys,
                         requests=keys * (burst + more))
        limit, size = only_limit(gateway), gateway.segment_bytes() - empty
    admitted, evicted = only_limits(found), limit["evicted"]
    assert limit["admitted"] == admitted and limit["refused"] == found["statuses"][429], (found, limit)
    # A key whose budget gave way begins anew, so it may be admitted again, up to its burst.
    assert keys * burst <= admitted <= keys * burst + evicted * burst, (found, limit)
    assert found["by_admitted"].get(burst, 0) >= keys - evicted, (found, limit)
    assert size <= 32 * keys * room + (64 << 10), (size, limit)
    return (f"token bucket, 1/1d burst {burst}, {workers} workers, {keys} keys asked {burst + more} times each,"
            f" room for {round(keys * room)}: {found['sent']} requests in {found['seconds']:.1f} s, {admitted}"
            f" admitted, {keys * burst} allowed, {evicted} evictions; {size / keys / room:.1f} bytes a key")


def only_limit(gateway):
    """What the gateway tells of its one limit."""
    limits = gateway.json("limit", "list")["limits"]
    assert len(limits) == 1, limits
    return limits[0]


def disturbed(folder, *, workers, budget, rate, reloads, kills, upgrades):
    """A budget that does not come back, asked steadily while the gateway is reloaded, its workers are
    killed and it is upgraded: in the end it has been given out once."""
    pauses = 1 + reloads + kills + upgrades
    seconds = max(2 * budget / rate, 1.0 * pauses)
    text = limited(f"rate = 1/400d burst {budget}")
    with TrafficGateway(folder, text, workers=workers) as gateway:
        client = Keys(gateway.port, connections=4 * workers, rate=rate, seconds=seconds)
        pause = budget / rate / pauses      # all of it happens while the budget lasts
        for number in range(max(reloads, kills, upgrades)):
            if number < reloads:
                time.sleep(pause)
                gateway.reload()
            if number < kills:
                time.sleep(pause)
                gateway.kill_worker()
            if number < upgrades:
                time.sleep(pause)
                gateway.upgrade()
        found = client.result()
        assert ask_keys(gateway.port, requests=100)["statuses"] == {429: 100}
    assert set(found["statuses"]) == {200, 429}, found
    admitted = found["statuses"][200]
    # What was under way on a killed worker may have been admitted without an answer.
    assert budget - found["lost"] <= admitted <= budget, found
    return (f"a budget of {budget} over {reloads} reloads, {kills} kills of workers and {upgrades} upgrades:"
            f" {found['sent']} requests, {admitted} admitted, {found['lost']} without an answer")
