"""Clients that shake hands all the time while certificates are swapped under them."""
import hashlib
import socket
import ssl
import threading
import time

from peers import request_bytes
from waiting import DEADLINE

NAME = "swap.test"


class Handshakes:
    """`clients` threads that connect anew each time, verify what they are shown, and ask once; and
    one that asks over one connection all the time. Each handshake is noted as (when it began,
    fingerprint); a failure of any of them ends all and is raised by stop()."""

    def __init__(self, address, authority_file, clients=4):
        self.address = address
        self.context = ssl.create_default_context(cafile=authority_file)
        self.stopping, self.errors = False, []
        self.seen, self.kept_answers = [], 0
        self.threads = [threading.Thread(target=self.guarded, args=(self.anew,))
                        for _ in range(clients)]
        self.threads.append(threading.Thread(target=self.guarded, args=(self.kept,)))
        for thread in self.threads:
            thread.start()

    def guarded(self, work):
        try:
            while not self.stopping:
                work()
        except Exception as problem:  # whatever it is, the test tells it
            self.errors.append(problem)
            self.stopping = True

    def connect(self):
        plain = socket.create_connection(self.address, timeout=DEADLINE)
        return self.context.wrap_socket(plain, server_hostname=NAME)

    @staticmethod
    def ask(sock):
        sock.sendall(request_bytes("/", host=NAME))
        answer = sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 "), answer

    def anew(self):
        began = time.monotonic()
        with self.connect() as sock:
            shown = hashlib.sha256(sock.getpeercert(binary_form=True)).hexdigest()
            self.ask(sock)
        self.seen.append((began, shown))

    def kept(self):
        with self.connect() as sock:
            while not self.stopping:
                self.ask(sock)
                self.kept_answers += 1
                time.sleep(0.005)

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors[0]


def swap_under_load(one, folder, authority, authority_file, *, times, every):
    """Swaps the certificate `times` times, one every so many seconds. Gives how long the slowest
    swap took: from the question until no new handshake showed the one before."""
    new = authority.leaf([NAME])
    shown = [new.fingerprint]
    swaps = []
    load = Handshakes(one.address, authority_file)
    try:
        for _ in range(times):
            until = time.monotonic() + every
            while time.monotonic() < until and not load.errors:
                time.sleep(0.01)
            if load.errors:
                break
            new = authority.leaf([NAME])
            new.write(folder, "swap")
            began = time.monotonic()
            reply = one.ask("certificate_reload")
            assert reply["ok"] and reply["changed"] == ["swap"], reply
            swaps.append((began, time.monotonic()))
            shown.append(new.fingerprint)
        seen = len(load.seen)
        while len(load.seen) < seen + 8 and not load.errors:
            time.sleep(0.01)
    finally:
        load.stop()
    slowest = 0.0
    for number, (began, done) in enumerate(swaps, 1):
        older, newer = set(shown[1:number]), set(shown[number:])
        assert not [mark for at, mark in load.seen if at > done and mark in older], \
            "a worker showed the one before after the answer"
        late = [at for at, mark in load.seen if at > began and mark not in newer]
        slowest = max([slowest, *(at - began for at in late)])
        assert [at for at, mark in load.seen if mark == shown[number]], "nobody was shown it"
    assert load.kept_answers > times
    return slowest, len(load.seen)
