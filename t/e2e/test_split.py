"""Several upstreams of one route: shares, sticky clients, conditions; counts and logs name the side."""
import re

from control import reloadable
from peers import answering
from waiting import eventually

SECRET = "sticky_secret = 3f0a91c7e5d24b8860aa"


def config(old, new, value, *lines, next_lines=""):
    return f"""
[listener public]
address = 127.0.0.1:0

[upstream users]
target = {old.target}

[upstream users_next]
target = {new.target}
{next_lines}

[log access]
file = %FOLDER%/access.log
format = $upstream $status
flush = 10ms

[route all]
listener = public
upstream = {value}
log = access
{chr(10).join(lines)}
"""


def both(upstream):
    return upstream(answering(b"old")), upstream(answering(b"new"))


def start(gateway, folder, text, **options):
    return gateway(text.replace("%FOLDER%", folder), **options)


def bodies(client, count, *fields):
    return [client.get("/", *fields).body.decode() for _ in range(count)]


def cookie_of(response):
    field = response.get("Set-Cookie")
    return field and field.split(";")[0]


def test_requests_are_dealt_by_share(gateway, folder, upstream):
    old, new = both(upstream)
    one = start(gateway, folder, config(old, new, "users 75%, users_next 25%"))
    with one.connect() as client:
        seen = bodies(client, 800)
    # Seven standard deviations of 12.
    assert 115 < seen.count("new") < 285
    assert seen.count("old") + seen.count("new") == 800
    one.wait_counted()
    metrics = one.metrics()
    for name, body in (("users", "old"), ("users_next", "new")):
        key = f'gatehouse_upstream_requests_total{{upstream="{name}",class="2xx"}}'
        assert metrics[key] == seen.count(body)

    def logged():
        with open(f"{folder}/access.log") as log:
            return log.read().splitlines()
    eventually(lambda: len(logged()) == 800, "all lines are logged")
    assert logged().count("users_next 200") == seen.count("new")
    assert logged().count("users 200") == seen.count("old")


def test_a_sticky_client_keeps_its_side_over_a_reload(gateway, folder, upstream):
    old, new = both(upstream)
    value = "users {}%, users_next {}% sticky cookie side"

    def text(share):
        return config(old, new, value.format(100 - share, share)).replace("%FOLDER%", folder)

    running = reloadable(gateway, text(50), workers=2)
    one = running.gateway
    clients = {}
    for _ in range(60):
        answer = one.get("/")
        assert re.fullmatch(r"side=[0-9a-f]{32}; Path=/; HttpOnly; SameSite=Lax", answer.get("Set-Cookie"))
        clients[cookie_of(answer)] = answer.body
    assert len(clients) == 60 and set(clients.values()) == {b"old", b"new"}

    def moved(share):
        running.reload(text(share))
        now = {}
        for cookie in clients:
            answer = one.get("/", f"Cookie: a=b; {cookie}")
            assert not answer.has("Set-Cookie")
            now[cookie] = answer.body
        return now

    same = moved(50)
    assert same == clients
    more = moved(80)
    assert all(more[cookie] == b"new" for cookie, body in clients.items() if body == b"new")
    assert list(more.values()).count(b"new") > list(clients.values()).count(b"new")
    assert set(moved(100).values()) == {b"new"}
    assert moved(50) == clients
    assert set(moved(0).values()) == {b"old"}


def test_a_forged_cookie_is_replaced(gateway, folder, upstream):
    old, new = both(upstream)
    one = start(gateway, folder, config(old, new, "users 0%, users_next 100% sticky cookie side", SECRET))
    for value in ("side=users", "side=" + "0" * 32, "side="):
        answer = one.get("/", f"Cookie: {value}")
        assert answer.body == b"new" and cookie_of(answer) not in (None, value)
    good = cookie_of(one.get("/"))
    forged = good[:-1] + ("0" if good[-1] != "0" else "1")
    assert cookie_of(one.get("/", f"Cookie: {forged}")) not in (None, forged, good)
    assert not one.get("/", f"Cookie: {good}").has("Set-Cookie")


def test_a_secret_outlives_a_restart(gateway, folder, upstream):
    old, new = both(upstream)
    text = config(old, new, "users 50%, users_next 50% sticky cookie side", SECRET)
    one = start(gateway, folder, text)
    clients = {}
    for _ in range(30):
        answer = one.get("/")
        clients[cookie_of(answer)] = answer.body
    one.check_descriptors = False      # connections to the upstreams are kept
    one.stop()
    other = start(gateway, folder, text)
    for cookie, body in clients.items():
        answer = other.get("/", f"Cookie: {cookie}")
        assert answer.body == body and not answer.has("Set-Cookie")


def test_conditions_choose_the_side(gateway, folder, upstream):
    old, new = both(upstream)
    one = start(gateway, folder,
                config(old, new, "users, users_next if header X-Beta: 1, users_next if cookie beta=yes"))
    with one.connect() as client:
        assert bodies(client, 3) == ["old"] * 3
        assert bodies(client, 3, "X-Beta: 1") == ["new"] * 3
        assert bodies(client, 3, "X-Beta: 0") == ["old"] * 3
        assert bodies(client, 3, "Cookie: a=1; beta=yes") == ["new"] * 3
        assert bodies(client, 3, "Cookie: beta=no") == ["old"] * 3


def test_a_side_without_a_target_is_not_switched(gateway, folder, upstream):
    old, new = both(upstream)
    new.stop_listening()
    one = start(gateway, folder,
                config(old, new, "users, users_next if header X-Beta", next_lines="connect_timeout = 500ms"))
    with one.connect() as client:
        assert client.get("/").status == 200
        assert client.get("/", "X-Beta: 1").status == 502
        assert client.get("/").status == 200


def test_a_request_with_a_body_is_dealt_too(gateway, folder, upstream):
    old, new = both(upstream)
    one = start(gateway, folder, config(old, new, "users 50%, users_next 50% sticky cookie side"))
    with one.connect() as client:
        seen = {client.get("/", method="POST", body=b"x" * 100_000).body for _ in range(60)}
    assert seen == {b"old", b"new"}
