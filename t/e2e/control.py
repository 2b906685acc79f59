"""The control socket of a running gateway, and what a reload changes about the fixtures.

    one = reloadable(gateway, proxy_config(server))
    reply = one.reload(proxy_config(other))          # asserts that it succeeded
    error = one.refuse("[listener]\\nadress = …")     # asserts that it did not; gives the error
"""
import json
import os
import re
import socket

from gateway import children_of, descriptors_of, parse_address, title_of
from waiting import DEADLINE, eventually


class Control:
    """One connection. Requests may be sent without waiting for the replies: send() and receive()."""

    def __init__(self, path, deadline=DEADLINE):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(deadline)
        self.sock.connect(path)
        self.last = 0

    def send(self, command, **body):
        self.last += 1
        self.sock.sendall(json.dumps({"v": 1, "id": self.last, "command": command, **body})
                          .encode())
        return self.last

    def receive(self):
        data, fds, _, _ = socket.recv_fds(self.sock, 1 << 16, 4)
        for fd in fds:
            os.close(fd)
        assert data, "the master closes the control connection"
        return json.loads(data)

    def ask(self, command, **body):
        number = self.send(command, **body)
        reply = self.receive()
        assert reply["v"] == 1 and reply["id"] == number, reply
        return reply

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Reloadable:
    """A gateway with a control socket. Whatever it does not have is the Gateway's."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.path = re.search(r"^control = (\S+)$", gateway.settings, re.M).group(1)

    def __getattr__(self, name):
        return getattr(self.gateway, name)

    def __setattr__(self, name, value):
        if name in ("gateway", "path"):
            object.__setattr__(self, name, value)
        else:
            setattr(self.gateway, name, value)

    def ask(self, command, **body):
        with Control(self.path) as control:
            return control.ask(command, **body)

    def status(self):
        reply = self.ask("status")
        assert reply["ok"], reply
        return reply

    def set(self, key, value):
        """Gives a key of [gatehouse] another value, or with None takes it away; from the next
        write_config() on."""
        line = "" if value is None else f"{key} = {value}\n"
        settings = re.sub(rf"^{key} = .*\n", "", self.gateway.settings, flags=re.M)
        self.gateway.settings = settings.replace("[gatehouse]\n", "[gatehouse]\n" + line, 1)

    def reload(self, config=None, **settings):
        """A reload that has to succeed. `settings`: keys of [gatehouse] and their new values."""
        for key, value in settings.items():
            self.set(key, value)
        if config is not None:
            self.gateway.write_config(config)
        reply = self.ask("reload")
        assert reply["ok"], reply
        self.settle()
        return reply

    def refuse(self, config=None, **settings):
        """A reload that has to be refused: gives the error's text, and the generation goes on."""
        before = self.status()["generation"]
        for key, value in settings.items():
            self.set(key, value)
        if config is not None:
            self.gateway.write_config(config)
        reply = self.ask("reload")
        assert not reply["ok"] and reply["error"], reply
        status = self.status()
        assert status["generation"] == before == reply["generation"]
        last = status["reload"]["last"]
        assert not last["ok"] and last["error"] == reply["error"]
        return reply["error"]

    def wait_serving(self, count):
        """Waits until there are so many workers, which all serve the present generation."""
        def all_serve():
            status = self.status()
            return [(worker["state"], worker.get("generation")) for worker in status["workers"]] \
                == [("ready", status["generation"])] * count
        eventually(all_serve, lambda: f"{count} workers serve: {self.status()['workers']}")

    def settle(self):
        """After a reload: what the fixture knows of addresses and of resting descriptors."""
        self.gateway.addresses = {}
        for entry in self.status()["listeners"]:
            self.gateway.addresses.setdefault(entry["listener"], []).append(
                parse_address(entry["address"]))

    def line_of(self, text):
        """The number of the first line of the configuration file that has this in it."""
        with open(self.config_path) as file:
            for number, line in enumerate(file, 1):
                if text in line:
                    return number
        raise AssertionError(f"{text!r} is not in the configuration")


def reloadable(make, config, *, gatehouse="", descriptors=None, **options):
    """Starts a gateway (`make` is the fixture) with a control socket in its own folder."""
    one = make(config, start=False, gatehouse=gatehouse, **options)
    path = os.path.join(one.folder, "control.sock")
    one.settings = re.sub(r"^control = .*$", f"control = {path}", one.settings, flags=re.M)
    one.write_config(config)
    one.start(descriptors=descriptors)
    # The first reload gives each worker a helper thread; what is left over is compared by the tests.
    one.check_descriptors = False
    eventually(lambda: os.path.exists(path), "the control socket")
    return Reloadable(one)


def at_rest(master):
    """What the master has once it has let go of the test's own control connections."""
    seen = []

    def steady():
        seen.append(belongings(master))
        return len(seen) > 10 and all(one == seen[-1] for one in seen[-10:])
    eventually(steady, "the master comes to rest")
    return seen[-1]


def belongings(master):
    """What a master has, in a form that can be compared: its descriptors by what they lead to
    (sockets without their numbers), and the titles of its processes."""
    links = []
    for link in descriptors_of(master).values():
        links.append("socket" if link.startswith("socket:") else link)
    return sorted(links), sorted(title_of(child) for child in children_of(master))
