"""What the processes of a server hold, from /proc: memory, descriptors, connections."""
import os
import re


def stat_of(pid):
    """The fields of /proc/PID/stat from the third (the state) on."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def is_alive(pid):
    """False also for one that has ended and was not yet waited for."""
    try:
        return stat_of(pid)[0] != "Z"
    except (OSError, IndexError):
        return False


def is_stopped(pid):
    return stat_of(pid)[0] == "T"


def descendants(pid):
    """The living processes that `pid` has started, and theirs; without itself."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = stat_of(entry)
            except (OSError, IndexError):
                continue
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        more = children.get(todo.pop(), [])
        found += more
        todo += more
    return sorted(found)


def title_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").replace(b"\0", b" ").decode()
    except OSError:
        return ""


def kib(text, name):
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.M)
    return int(found.group(1)) if found else 0


class Footprint:
    """One process at one moment; sizes in KiB. `alone`: RssAnon; `shared`: the shared segment's
    pages and other shmem it maps; `pss`: its share of all it maps. `kept`: the descriptors without
    connections over TCP, which come and go with the load."""

    def __init__(self, pid, lasting=frozenset()):
        self.pid = pid
        self.title = title_of(pid)
        with open(f"/proc/{pid}/status") as file:
            status = file.read()
        self.alone, self.shared = kib(status, "RssAnon"), kib(status, "RssShmem")
        with open(f"/proc/{pid}/smaps_rollup") as file:
            self.pss = kib(file.read(), "Pss")
        # Looked at once: between two looks a connection may come or go.
        links = descriptors_of(pid)
        self.descriptors = len(links)
        sockets = sockets_among(links)
        self.kept = self.descriptors - len(sockets) + len(sockets & lasting)

    def __str__(self):
        return (f"{self.title or self.pid}: {self.alone} KiB alone, {self.shared} KiB shared,"
                f" {self.pss} KiB pss, {self.descriptors} descriptors ({self.kept} kept)")


def footprints(master):
    """{pid: Footprint} of the master and all below it."""
    found = {}
    pids = [master, *descendants(master)]
    lasting = {inode for _, _, state, inode in tcp_table() if state == "0A"} | unix_sockets()
    for pid in pids:
        try:
            found[pid] = Footprint(pid, lasting)
        except OSError:
            pass                # it ended meanwhile
    return found


def tcp_table():
    """[(local, remote, state, inode)] of IPv4, addresses as "127.0.0.1:80"."""
    def address(word):
        host, _, port = word.partition(":")
        octets = [str(int(host[i:i + 2], 16)) for i in (6, 4, 2, 0)]
        return f"{'.'.join(octets)}:{int(port, 16)}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.read().splitlines()[1:]]
    return [(address(row[1]), address(row[2]), row[3], row[9]) for row in rows]


def unix_sockets():
    """The inodes of all sockets of the Unix domain."""
    with open("/proc/net/unix") as table:
        return {line.split()[6] for line in table.read().splitlines()[1:]}


def descriptors_of(pid):
    """What each descriptor of the process is: "socket:[1234]", "/var/log/access.log"."""
    links = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            pass                # closed meanwhile
    return links


def sockets_among(links):
    """The inodes of the sockets among what descriptors_of() tells."""
    return {link[len("socket:["):-1] for link in links if link.startswith("socket:[")}


def clients_of(pid, port):
    """The addresses of the clients whose connections to this local port the process has accepted.
    Stable only while the process is stopped."""
    inodes = sockets_among(descriptors_of(pid))
    return {remote for local, remote, state, inode in tcp_table()
            if inode in inodes and local.endswith(f":{port}") and state != "0A"}
