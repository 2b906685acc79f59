"""TLS to clients: certificates by name, versions, protocols, resumption, client certificates,
early data, redirect_http and HSTS."""
import os
import socket
import ssl
import time

import pytest

from gateway import run_gatehouse
from peers import answering
from tls import Site, fingerprint, reused, s_client, tls_client
from waiting import eventually

REPLY = "[route all]\nlistener = public\nreply = 200 hello\n"


@pytest.fixture
def site(folder):
    return Site(folder)


def listener(more=""):
    return f"[listener public]\naddress = 127.0.0.1:0\ntls = on\n{more}\n"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def refused(gateway, context, **options):
    """What the client is told: by the handshake, or (TLS 1.3) by the first read."""
    with pytest.raises((ssl.SSLError, ConnectionError)) as raised:
        with tls_client(gateway, context, **options) as client:
            client.sock.send(b"x")
            client.sock.recv(1)
    return str(raised.value)


# ---- Serving ------------------------------------------------------------------------------------

def test_curl_gets_an_answer(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener() + REPLY)
    done = server.curl("--cacert", site.ca, "--resolve", f"a.example:{server.port}:127.0.0.1",
                       "--http1.1", "-w", " %{http_version} %{ssl_verify_result}",
                       f"https://a.example:{server.port}/")
    assert done.stdout == b"hello\n 1.1 0", done.stderr


def test_proxies_with_keep_alive_and_bodies(proxy, upstream, gateway, site):
    site.add("main", ["a.example"])
    target = upstream(answering(b"y" * 300_000))
    server = gateway(site.sections + listener() + f"""
[upstream app]
target = {target.target}
[route all]
upstream = app
""")
    with tls_client(server, site.context()) as client:
        for size in (0, 10, 20_000, 200_000):
            response = client.get("/x", method="POST", body=b"x" * size)
            assert response.status == 200 and response.body == b"y" * 300_000
    assert [len(r.body) for r in target.requests] == [0, 10, 20_000, 200_000]
    assert len(target.connections) == 1
    assert target.requests[0].get("X-Forwarded-Proto") == "https"


def test_the_end_is_said(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener() + REPLY)
    with tls_client(server, site.context()) as client:
        assert client.get("/", "Connection: close").body == b"hello\n"
        # Without a close_notify this raises SSLEOFError.
        assert client.sock.recv(1) == b""


def test_pipelined_requests_in_one_record(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener() + REPLY)
    with tls_client(server, site.context()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n" * 50)
        for _ in range(50):
            assert client.read_response().body == b"hello\n"


def test_plain_http_is_no_tls(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener() + REPLY)
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert client.wait_end() in ("end", "reset")
    server.wait_log("TLS handshake with 127.0.0.1 failed: http request")
    assert server.counted() == 0


def test_a_handshake_that_stands_still_ends(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener("handshake_timeout = 300ms") + REPLY)
    with server.connect() as client:
        begin = time.monotonic()
        client.send(b"\x16\x03\x01")
        assert client.wait_end() in ("end", "reset")
        assert 0.2 < time.monotonic() - begin < 3
    server.wait_log("failed: timed out")


# ---- Certificates by name -----------------------------------------------------------------------

def test_the_certificate_is_that_of_the_name(gateway, site):
    main = site.add("main", ["a.example", "www.a.example"])
    wild = site.add("wild", ["*.b.example"])
    exact = site.add("exact", ["x.b.example"])
    server = gateway(site.sections + listener() + REPLY)
    context = site.context(verify=False)
    for name, leaf in (("a.example", main), ("WWW.a.example", main), ("y.b.example", wild),
                       ("x.b.example", exact), ("b.example", main), ("z.y.b.example", main),
                       ("unknown.example", main), (None, main)):
        with tls_client(server, context, name=name) as client:
            assert fingerprint(client) == leaf.fingerprint, name
            assert client.get().body == b"hello\n"


def test_a_listener_shows_what_it_names(gateway, site):
    site.add("main", ["a.example"])
    other = site.add("other", ["b.example"])
    server = gateway(site.sections + listener("certificate = other") + REPLY)
    for name in ("a.example", "b.example"):
        with tls_client(server, site.context(verify=False), name=name) as client:
            assert fingerprint(client) == other.fingerprint


def test_ecdsa_and_rsa_side_by_side(gateway, site):
    ecdsa, rsa = site.add("main", ["a.example"], ("ecdsa", "rsa"))
    ecdsa2, rsa2 = site.add("other", ["b.example"], ("ecdsa", "rsa"))
    only = site.add("only", ["c.example"], ("rsa",))
    server = gateway(site.sections + listener() + REPLY)
    for name, one, two in (("a.example", ecdsa, rsa), ("b.example", ecdsa2, rsa2),
                           ("c.example", only, only)):
        with tls_client(server, site.context(), name=name) as client:
            assert fingerprint(client) == one.fingerprint
        old = site.context(newest=ssl.TLSVersion.TLSv1_2)
        old.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        with tls_client(server, old, name=name) as client:
            assert fingerprint(client) == two.fingerprint


def test_unknown_names_are_refused_where_that_is_said(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener("unknown_server_name = refuse") + REPLY)
    with tls_client(server, site.context()) as client:
        assert client.get().body == b"hello\n"
    context = site.context(verify=False)
    assert "UNRECOGNIZED_NAME" in refused(server, context, name="b.example").upper()
    assert "UNRECOGNIZED_NAME" in refused(server, context, name=None).upper()


def test_an_ocsp_response_is_stapled(gateway, site):
    leaf = site.add("main", ["a.example"])
    path = site.path("main.ocsp")
    with open(path, "wb") as out:
        out.write(site.authority.ocsp(leaf))
    site.sections += f"ocsp = {path}\n"
    site.add("bare", ["b.example"])
    server = gateway(site.sections + listener() + REPLY)
    said = s_client(server, "-servername", "a.example", "-status", "-CAfile", site.ca)
    assert "OCSP Response Status: successful (0x0)" in said and "Cert Status: good" in said
    said = s_client(server, "-servername", "b.example", "-status", "-CAfile", site.ca)
    assert "OCSP response: no response sent" in said


# ---- Versions, suites, protocols ----------------------------------------------------------------

@pytest.mark.parametrize("profile, offered, agreed", [
    ("strict", "tls1_3", "TLSv1.3"), ("strict", "tls1_2", "TLSv1.2"), ("strict", "tls1_1", None),
    ("modern", "tls1_3", "TLSv1.3"), ("modern", "tls1_2", None),
    ("intermediate", "tls1_2", "TLSv1.2"),
    ("custom\ntls_versions = 1.2", "tls1_3", None),
])
def test_versions(gateway, site, profile, offered, agreed):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener(f"tls_profile = {profile}") + REPLY)
    said = s_client(server, f"-{offered}", "-cipher", "ALL@SECLEVEL=0", "-CAfile", site.ca)
    if agreed:
        assert f"New, {agreed}" in said and "Verify return code: 0" in said
    else:
        assert "New, (NONE)" in said


def test_only_suites_with_forward_secrecy_and_authenticated_encryption(gateway, site):
    site.add("main", ["a.example"], ("ecdsa", "rsa"))
    server = gateway(site.sections + listener() + REPLY)
    for suite, taken in (("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("AES128-GCM-SHA256", False),
                         ("ECDHE-RSA-AES256-GCM-SHA384", True),
                         ("ECDHE-RSA-AES128-SHA256", False), ("DHE-RSA-AES128-GCM-SHA256", False)):
        said = s_client(server, "-tls1_2", "-cipher", suite)
        assert (f"Cipher is {suite}" in said) == taken, suite


def test_protocols(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener("http2 = off") + REPLY)
    for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"),
                            (None, None)):
        with tls_client(server, site.context(alpn=offered)) as client:
            assert client.sock.selected_alpn_protocol() == chosen
            assert client.get().body == b"hello\n"
    # Whoever names none of ours means somebody else (RFC 7301).
    assert "ALERT" in refused(server, site.context(alpn=["smtp"])).upper()


# ---- Sessions -----------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_worker_resumes_every_session(gateway, site, version):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener() + REPLY, workers=3)
    context = site.context(newest=version, oldest=version)
    session = None
    resumed = 0
    for turn in range(40):
        if turn == 20:
            log = server.log()
            server.check_descriptors = False  # the helper thread brings its own
            server.send_signal(1)
            eventually(lambda: server.log()[len(log):].count("generation 2") > 0, "a reload")
        with tls_client(server, context, session=session) as client:
            assert client.get().body == b"hello\n"
            resumed += client.sock.session_reused
            session = client.sock.session
    assert resumed == 39


def test_a_worker_that_was_killed_takes_no_session_with_it(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener() + REPLY)
    context = site.context()
    with tls_client(server, context) as client:
        assert client.get().body == b"hello\n"
        session = client.sock.session
    eventually(lambda: server.counted() == 1, "the request is counted")
    killed = server.worker
    server.send_signal(9, killed)
    eventually(lambda: killed not in (server.workers() or [killed]), "another worker")
    with tls_client(server, context, session=session) as client:
        assert client.sock.session_reused
        assert client.get().body == b"hello\n"


def test_a_session_ends_with_its_lifetime(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener("tls_session_lifetime = 1s") + REPLY)
    context = site.context()
    with tls_client(server, context) as client:
        client.get()
        session = client.sock.session
    assert session.ticket_lifetime_hint == 1
    time.sleep(2.1)
    with tls_client(server, context, session=session) as client:
        assert not client.sock.session_reused


# ---- Client certificates ------------------------------------------------------------------------

FACTS = ("$tls_client_verified|$tls_client_subject|$tls_client_issuer|$tls_client_serial|"
         "$tls_client_fingerprint|$tls_client_san|$tls_client_not_after")


def asking(site, mode, more=""):
    return (site.sections + listener(f"client_certificate = {mode}\nclient_ca = {site.ca}\n{more}")
            + f"[route all]\nreply = 200 {FACTS}\n")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_asked_for_and_told(gateway, site, version):
    site.add("main", ["a.example"])
    leaf = site.client("Some Client", ["client.example", "192.0.2.7"])
    server = gateway(asking(site, "required"))
    context = site.context(client="Some Client", newest=version, oldest=version)
    session = None
    for turn in range(2):
        with tls_client(server, context, session=session) as client:
            facts = client.get().body.decode().strip().split("|")
            assert client.sock.session_reused == (turn == 1)
            session = client.sock.session
        assert facts == ["yes", "CN=Some Client", "CN=gatehouse tests",
                         f"{leaf.certificate.serial_number:x}".zfill(40)[-len(facts[3]):],
                         leaf.fingerprint, "DNS:client.example, IP:192.0.2.7",
                         leaf.certificate.not_valid_after.strftime("%Y-%m-%dT%H:%M:%SZ")]
    assert "REQUIRED" in refused(server, site.context()).upper()


def test_an_optional_client_certificate_has_to_be_good(gateway, site, folder):
    site.add("main", ["a.example"])
    site.client("good")
    site.client("late", days=-1)
    server = gateway(asking(site, "optional"))
    with tls_client(server, site.context()) as client:
        assert client.get().body == b"no||||||\n"
    with tls_client(server, site.context(client="good")) as client:
        assert client.get().body.startswith(b"yes|CN=good|")
    assert "EXPIRED" in refused(server, site.context(client="late")).upper()
    stranger = Site(os.path.join(folder, "stranger"))
    stranger.client("stranger")
    context = site.context()
    context.load_cert_chain(stranger.path("stranger.pem"), stranger.path("stranger.key"))
    assert "UNKNOWN_CA" in refused(server, context).upper()


def test_a_revoked_client_certificate_is_refused(gateway, site):
    site.add("main", ["a.example"])
    site.client("good")
    bad = site.client("bad")
    with open(site.path("clients.crl"), "wb") as out:
        out.write(site.authority.crl([bad]))
    server = gateway(asking(site, "required", f"client_crl = {site.path('clients.crl')}"))
    with tls_client(server, site.context(client="good")) as client:
        assert client.get().status == 200
    assert "REVOKED" in refused(server, site.context(client="bad")).upper()


def test_a_session_is_not_resumed_where_more_is_asked(gateway, site):
    """What was begun without a certificate does not get past a listener that asks for one."""
    site.add("main", ["a.example"])
    site.client("good")
    server = gateway(site.sections + listener() + f"""
[listener asking]
address = 127.0.0.1:0
tls = on
client_certificate = required
client_ca = {site.ca}
[route all]
reply = 200 hello
""")
    context = site.context()
    with tls_client(server, context, listener="public") as client:
        client.get()
        session = client.sock.session
    assert "REQUIRED" in refused(server, context, session=session, listener="asking").upper()


# ---- Early data ---------------------------------------------------------------------------------

def early(server, site, request, turns=2):
    """What s_client says of a request that it sends as early data."""
    ticket = site.path("ticket")
    first = s_client(server, "-servername", "a.example", "-CAfile", site.ca, "-sess_out", ticket,
                     "-ign_eof", text="GET /first HTTP/1.0\r\nHost: a.example\r\n\r\n")
    assert "Max Early Data: 16384" in first, first
    server.count(1)
    path = site.path("early")
    with open(path, "w") as out:
        out.write(request)
    said = s_client(server, "-servername", "a.example", "-CAfile", site.ca, "-sess_in", ticket,
                    "-early_data", path, "-ign_eof")
    assert reused(said)
    server.count(1)
    return said


def test_early_data_is_taken_for_safe_methods_only(gateway, upstream, site):
    site.add("main", ["a.example"])
    target = upstream(answering(b"from the upstream"))
    server = gateway(site.sections + listener("early_data = on") + f"""
[upstream app]
target = {target.target}
[route all]
upstream = app
""")
    said = early(server, site, "GET /early HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"
                               "Early-Data: 7\r\n\r\n")
    assert "Early data was accepted" in said and "from the upstream" in said
    assert [(r.target, r.all("Early-Data")) for r in target.requests] == [
        ("/first", []), ("/early", ["1"])]
    said = early(server, site, "POST /early HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"
                               "Content-Length: 0\r\n\r\n")
    assert "HTTP/1.1 425 Too Early" in said
    assert [r.target for r in target.requests] == ["/first", "/early", "/first"]
    assert server.reasons()["too_early"] == 1


def test_early_data_is_off(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener() + REPLY)
    said = s_client(server, "-servername", "a.example", "-ign_eof",
                    text="GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
    server.count(1)
    assert "Max Early Data: 0" in said and "hello" in said


# ---- Variables, redirect_http, HSTS -------------------------------------------------------------

def test_what_can_be_said_of_a_connection(gateway, site):
    site.add("main", ["a.example"])
    server = gateway(site.sections + listener() + """
[listener plain]
address = 127.0.0.1:0
[route all]
reply = 200 $scheme|$tls_version|$tls_cipher|$tls_server_name|$tls_protocol|$tls_resumed|\
$tls_early_data|$tls_client_verified|$tls_client_subject
""")
    context = site.context(alpn=["http/1.1"])
    with tls_client(server, context) as client:
        said = client.get().body.decode().strip()
        assert said == ("https|TLSv1.3|TLS_AES_128_GCM_SHA256|a.example|http/1.1|no||no|")
        session = client.sock.session
    with tls_client(server, context, session=session) as client:
        assert client.get().body.decode().strip().split("|")[5] == "yes"
    with server.connect("plain") as client:
        assert client.get().body == b"http||||||||\n"


def test_redirect_http(gateway, site):
    site.add("main", ["a.example"])
    port, plain = free_port(), free_port()
    server = gateway(site.sections + f"""
[listener public]
address = 127.0.0.1:{port}
tls = on
redirect_http = {plain}
[defaults]
hsts = 365d
[route all]
reply = 200 hello
""")
    with server.connect("public/redirect_http") as client:
        for method, status in (("GET", 301), ("HEAD", 301), ("POST", 308), ("DELETE", 308)):
            response = client.get("/a%20b?c=d", method=method)
            assert response.status == status
            assert response.get("Location") == f"https://a.example:{port}/a%20b?c=d"
            assert not response.has("Strict-Transport-Security")
    with server.connect("public/redirect_http") as client:
        assert client.request(b"GET / HTTP/1.0\r\n\r\n").status == 400
    with tls_client(server, site.context(), listener="public") as client:
        response = client.get()
        assert response.body == b"hello\n"
        assert response.get("Strict-Transport-Security") == "max-age=31536000"


def test_hsts_is_the_gateways_word(gateway, upstream, site):
    site.add("main", ["a.example"])
    target = upstream(answering(b"x", "Strict-Transport-Security: max-age=1"))
    server = gateway(site.sections + listener() + f"""
[listener plain]
address = 127.0.0.1:0
[upstream app]
target = {target.target}
[route all]
upstream = app
hsts = 730d include_subdomains preload
[route none]
path = /none
upstream = app
""")
    with tls_client(server, site.context()) as client:
        assert client.get().all("Strict-Transport-Security") == [
            "max-age=63072000; includeSubDomains; preload"]
        assert client.get("/none").all("Strict-Transport-Security") == ["max-age=1"]
    with server.connect("plain") as client:
        assert client.get().all("Strict-Transport-Security") == []


# ---- What is wrong in a configuration -----------------------------------------------------------

def test_files_and_names_are_checked(site, folder):
    site.add("main", ["a.example"])
    crl = site.path("clients.crl")
    with open(crl, "wb") as out:
        out.write(site.authority.crl())
    key = site.path("main.ecdsa.key")
    asking_for = "tls = on\nclient_certificate = required\nclient_ca = "
    cases = (
        ("tls = on\ncertificate = mian", '= mian: there is no [certificate mian]',
         'did you mean "main"?'),
        (asking_for + "/nowhere.pem", "client_ca = /nowhere.pem: ", "No such file"),
        (asking_for + key, f"client_ca = {key}: ", "there is no certificate in it"),
        (asking_for + f"{site.ca}\nclient_crl = {site.ca}", f"client_crl = {site.ca}: ",
         "there is no revocation list in it"),
        (asking_for + f"{site.ca}\nclient_crl = {crl}", "is ok", ""),
        ("tls = on\nredirect_http = 1", "redirect_http = 1: [listener public] has the address "
                                        "127.0.0.1:1 already", "first: "),
    )
    path = os.path.join(folder, "checked.conf")
    for keys, one, two in cases:
        with open(path, "w") as out:
            out.write(f"{site.sections}[listener public]\naddress = 127.0.0.1:1\n{keys}\n{REPLY}")
        done = run_gatehouse("-t", "-c", path)
        assert one in done.stdout + done.stderr and two in done.stdout + done.stderr, keys
