"""Certificates without a client that sees them: reading, checking, listing, and the swap in all
workers. What TLS clients are shown is in test_tls_certificates.py.
"""
import os
import re
import signal
import subprocess
import threading

import pytest

from certificates import Authority
from control import at_rest, belongings, reloadable
from gateway import PROGRAM, children_of, descriptors_of, run_gatehouse, title_of
from waiting import eventually

ROOT = os.geteuid() == 0
ROUTE = "[listener a]\naddress = 127.0.0.1:0\n[route all]\nreply = 200\n"


@pytest.fixture(scope="module")
def authority():
    return Authority()


def section(name, folder, *files, more=""):
    text = f"[certificate {name}]\n"
    for file in files or (name,):
        text += f"certificate = {folder}/{file}.pem\nkey = {folder}/{file}.key\n"
    return text + more


def config_of(folder):
    return ROUTE + section("one", folder, "one", "one_rsa") + section("two", folder)


@pytest.fixture
def place(gateway, folder, authority):
    """Two workers and two certificates, one of them with two keys."""
    def make(**options):
        authority.leaf(["one.test", "*.one.test"]).write(folder, "one")
        authority.leaf(["one.test"], "rsa").write(folder, "one_rsa")
        authority.leaf(["two.test"], "ed25519").write(folder, "two")
        options.setdefault("workers", 2)
        return reloadable(gateway, config_of(folder), **options)
    return make


def editions(one):
    return [worker.get("certificates") for worker in one.status()["workers"]]


def swap(one, expect_ok=True):
    reply = one.ask("certificate_reload")
    assert reply["ok"] is expect_ok, reply
    return reply


def fingerprints(one):
    reply = one.ask("certificate_list")
    assert reply["ok"]
    return {certificate["name"]: [entry["fingerprint"] for entry in certificate["entries"]]
            for certificate in reply["certificates"]}


def test_a_swap_reaches_all_workers_and_nothing_else_changes(place, folder, authority):
    one = place()
    before = at_rest(one.pid)
    generation, pids = one.status()["generation"], one.workers()
    assert editions(one) == [1, 1]
    new = authority.leaf(["two.test", "more.test"])
    new.write(folder, "two")
    reply = swap(one)
    assert reply["changed"] == ["two"] and reply["warnings"] == [] and reply["edition"] == 2
    assert editions(one) == [2, 2]
    assert fingerprints(one)["two"] == [new.fingerprint]
    assert one.status()["generation"] == generation and one.workers() == pids
    assert swap(one)["changed"] == []
    eventually(lambda: belongings(one.pid) == before, "nothing is left")
    # The one bundle that serves is all that is mapped.
    for pid in [one.pid, *pids]:
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            bundles = {line.split()[4] for line in maps if "gatehouse certificates" in line}
        assert len(bundles) == 1, pid


def test_the_list_and_the_status_tell_what_serves(place, folder, authority):
    one = place()
    soon = authority.leaf(["two.test"], days=3)
    soon.write(folder, "two")
    with open(f"{folder}/two.ocsp", "wb") as out:
        out.write(authority.ocsp(soon))
    one.reload(ROUTE + section("one", folder, "one", "one_rsa") +
               section("two", folder, more=f"ocsp = {folder}/two.ocsp\nnames = two.test\n"))
    listed = one.ask("certificate_list")["certificates"]
    assert [certificate["name"] for certificate in listed] == ["one", "two"]
    assert listed[0]["names"] == ["one.test", "*.one.test"]
    assert [entry["kind"] for entry in listed[0]["entries"]] == ["ecdsa", "rsa"]
    assert listed[1]["entries"] == [{
        "kind": "ecdsa", "fingerprint": soon.fingerprint, "not_after": soon.not_after,
        "not_before": listed[1]["entries"][0]["not_before"], "ocsp": True,
        "serial": f"{soon.certificate.serial_number:x}".zfill(
            len(listed[1]["entries"][0]["serial"])),
        "subject": "CN=two.test", "issuer": "CN=gatehouse tests"}]
    status = one.status()["certificates"]
    assert status["count"] == 2 and status["next_to_expire"] == "two"
    assert status["next_expiry"] == soon.not_after and status["expired"] == 0
    metrics = one.metrics()
    expiry = {name: value for name, value in metrics.items() if "certificate_expiry" in name}
    name = 'gatehouse_certificate_expiry_time_seconds{certificate="two",kind="ecdsa"}'
    assert len(expiry) == 3 and expiry[name] == soon.not_after

    shown = run_gatehouse("certificate", "list", "-c", one.config_path)
    assert shown.returncode == 0
    row = [line for line in shown.stdout.splitlines() if line.startswith("two ")][0]
    assert soon.fingerprint[:16] in row and re.search(" (2 d 23|3 d 0) h +yes ", row), row
    assert run_gatehouse("certificate", "list", "gone", "-c",
                         one.config_path).stderr == "there is no [certificate gone]\n"
    assert re.search("certificates +2, the next to expire is two, in (2 d 23|3 d 0) h\n",
                     run_gatehouse("status", "-c", one.config_path).stdout)


def test_no_certificate_no_swap(gateway):
    one = reloadable(gateway, ROUTE)
    assert swap(one, expect_ok=False)["error"] == "the configuration has no [certificate]"
    assert one.ask("certificate_list")["certificates"] == []
    assert "certificates" not in one.status()
    assert not [name for name in one.metrics() if "certificate" in name]
    told = run_gatehouse("certificate", "list", "-c", one.config_path)
    assert told.stdout == "there is no certificate\n"


def test_whatever_is_wrong_leaves_what_serves(place, folder, authority):
    one = place()
    before = fingerprints(one)
    resting = at_rest(one.pid)
    key = f"{folder}/two.key"
    line = one.line_of(f"key = {key}")
    head = f"{one.config_path}:{line}: [certificate two] key = {key}: "

    def refused(error):
        assert swap(one, expect_ok=False)["error"].splitlines()[0] == head + error
        assert error in one.refuse()
        told = run_gatehouse("certificate", "reload", "-c", one.config_path)
        assert told.returncode == 1 and error in told.stderr and told.stdout == ""
        checked = run_gatehouse("-t", "-c", one.config_path)
        assert checked.returncode == 1 and checked.stderr.splitlines()[0] == head + error
        assert fingerprints(one) == before and set(editions(one)) == {1}

    authority.leaf(["two.test"]).write(folder, "other")
    os.rename(f"{folder}/other.key", key)
    refused(f"the key does not belong to the certificate in {folder}/two.pem")
    os.remove(key)
    refused("cannot open it: No such file or directory")
    os.mkfifo(key)
    refused("it is not a regular file")
    os.remove(key)
    with open(key, "wb") as out:
        out.write(b"x" * ((1 << 20) + 1))
    refused("it is larger than 1m, the most that is read")
    with open(key, "wb") as out:
        out.write(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    refused("the private key cannot be understood: nested asn1 error")
    assert one.status()["certificates"]["last"]["ok"] is False
    authority.leaf(["two.test"]).write(folder, "two")
    assert swap(one)["changed"] == ["two"]
    eventually(lambda: belongings(one.pid) == resting, "nothing is left")


def test_a_reload_reads_the_files_too_and_warns(place, folder, authority):
    one = place()
    old = authority.leaf(["two.test"], days=-1)
    old.write(folder, "two")
    reply = one.reload()
    assert len(reply["warnings"]) == 1 and "two.pem: it has expired, at 20" in reply["warnings"][0]
    assert fingerprints(one)["two"] == [old.fingerprint] and len(set(editions(one))) == 1
    assert one.status()["certificates"]["expired"] == 1
    # Sections come and go with it.
    one.reload(ROUTE + section("two", folder))
    assert list(fingerprints(one)) == ["two"]
    one.reload(ROUTE)
    assert fingerprints(one) == {} and editions(one) == [None, None]
    one.reload(ROUTE + section("one", folder))
    assert list(fingerprints(one)) == ["one"]
    assert swap(one)["changed"] == []


def test_a_worker_that_dies_in_a_swap_is_replaced_by_one_that_has_it(place, folder, authority):
    """Killed at any moment: while the files are read, before and after it has said that it is
    prepared. The swap succeeds, and no worker is left behind."""
    one = place()
    edition = 1
    for _ in range(4):
        new = authority.leaf(["two.test"])
        new.write(folder, "two")
        victims = one.workers()
        killer = threading.Thread(target=lambda: os.kill(victims[0], signal.SIGKILL))
        killer.start()
        reply = swap(one)
        killer.join()
        assert reply["edition"] > edition
        edition = reply["edition"]
        eventually(lambda: editions(one) == [edition, edition] and victims[0] not in one.workers()
                   and all(worker["state"] == "ready" for worker in one.status()["workers"]),
                   lambda: f"both workers have edition {edition}: {one.status()['workers']}")
        assert fingerprints(one)["two"] == [new.fingerprint]


def test_a_stopped_worker_does_not_hold_up_the_others_for_ever(place, folder, authority):
    one = place(gatehouse="reload_timeout = 2s\n")
    authority.leaf(["two.test"]).write(folder, "two")
    stuck = one.workers()[0]
    os.kill(stuck, signal.SIGSTOP)
    try:
        error = swap(one, expect_ok=False)["error"]
        assert error == "not prepared within reload_timeout: worker default/0"
        assert editions(one) == [1, 1]
    finally:
        os.kill(stuck, signal.SIGCONT)
    assert swap(one)["changed"] == ["two"]
    assert len(set(editions(one))) == 1


def test_more_workers_and_parked_ones_have_the_newest(place, folder, authority):
    one = place()
    authority.leaf(["two.test"]).write(folder, "two")
    swap(one)
    one.reload(config_of(folder), workers=4)
    one.wait_serving(4)
    assert len(set(editions(one))) == 1 and editions(one)[0] > 2
    one.reload(config_of(folder), workers=1)
    authority.leaf(["two.test"]).write(folder, "two")
    edition = swap(one)["edition"]
    eventually(lambda: editions(one) == [edition], lambda: str(one.status()["workers"]))


def test_swaps_and_reloads_at_once_take_turns(place, folder, authority):
    one = place()
    new = authority.leaf(["two.test"])
    new.write(folder, "two")
    replies = []

    def ask(command):
        replies.append(one.ask(command))
    threads = [threading.Thread(target=ask, args=(command,))
               for command in ("reload", "certificate_reload") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 8 and all(reply["ok"] for reply in replies), replies
    one.settle()
    eventually(lambda: len(set(editions(one))) == 1, "all have the same")
    assert fingerprints(one)["two"] == [new.fingerprint]


@pytest.mark.skipif(not ROOT, reason="needs root: workers run as somebody else")
def test_only_the_master_sees_keys(gateway, folder, authority):
    """Workers are another user's and cannot open the files; the agent has neither the files nor the
    bundle, and its history no byte of a key."""
    key = authority.leaf(["one.test"])
    paths = key.write(folder, "one")
    for path in paths:
        os.chmod(path, 0o600)
    state = os.path.join(folder, "state")
    one = reloadable(gateway, ROUTE + section("one", folder) + f"[agent]\nstate = {state}\n",
                     workers=2, gatehouse="agent = on\n")
    eventually(lambda: one.status()["agent"]["state"] == "ready", "the agent is ready")
    one.reload()
    for pid in one.workers():
        assert os.stat(f"/proc/{pid}").st_uid != 0
    agent = [pid for pid in children_of(one.pid) if title_of(pid) == "gatehouse: agent"][0]
    assert not [link for link in descriptors_of(agent).values() if "certificates" in link]
    with open(f"/proc/{agent}/maps", encoding="utf-8") as maps:
        assert "gatehouse certificates" not in maps.read()
    body = key.key_pem.splitlines()[1]
    der = key.key.private_numbers().private_value.to_bytes(32, "big")
    kept = [os.path.join(base, name) for base, _, names in os.walk(state) for name in names]
    assert [path for path in kept if path.endswith(".db") or "history" in path]
    for path in kept:
        with open(path, "rb") as file:
            content = file.read()
        assert body not in content and der not in content, path


@pytest.mark.skipif(not ROOT, reason="needs root: becomes another user")
def test_a_plain_user_is_told_what_it_may_not_read(folder, authority):
    authority.leaf(["one.test"]).write(folder, "one")
    os.chmod(f"{folder}/one.pem", 0o644)
    os.chmod(f"{folder}/one.key", 0o600)
    config = os.path.join(folder, "plain.conf")
    with open(config, "w", encoding="utf-8") as out:
        out.write(ROUTE + section("one", folder))
    checked = subprocess.run([PROGRAM, "-t", "-c", config], user=65534, capture_output=True,
                             text=True, timeout=20, check=False)
    assert checked.returncode == 1 and checked.stdout == ""
    assert checked.stderr.splitlines()[0] == (
        f"{config}:7: [certificate one] key = {folder}/one.key: cannot open it: Permission denied")
    assert run_gatehouse("-t", "-c", config).returncode == 0


def test_an_upgrade_reads_the_files_and_numbers_go_on(place, folder, authority):
    one = place()
    for _ in range(3):
        swap(one)
    new = authority.leaf(["two.test"])
    new.write(folder, "two")
    old = one.pid
    done = run_gatehouse("upgrade", "-c", one.config_path)
    assert done.returncode == 0, done.stderr
    pid = eventually(lambda: one.status()["pid"] != old and one.status()["pid"], "the new master")
    try:
        assert fingerprints(one)["two"] == [new.fingerprint]
        assert set(editions(one)) == {1}
        assert swap(one)["changed"] == []
        # What is wrong with a file keeps a new program from taking over.
        os.remove(f"{folder}/two.key")
        refused = run_gatehouse("upgrade", "-c", one.config_path)
        assert refused.returncode == 1 and "the certificates are not valid" in refused.stderr
        assert one.status()["pid"] == pid and fingerprints(one)["two"] == [new.fingerprint]
    finally:
        os.kill(pid, signal.SIGQUIT)
        eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the new master ends")
        one.wait_exit()
