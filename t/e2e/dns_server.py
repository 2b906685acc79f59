"""A DNS server on loopback whose answers are set by the test: A, AAAA, SRV, CNAME, with TTLs.

    dns = DnsServer()
    dns.set("users.test", "A", ["127.0.0.2"], ttl=1)
    dns.set("_http._tcp.users.test", "SRV", [(10, 5, 8080, "one.test")])
    dns.mode = "silent"             # or "servfail", or "answer"
"""
import socket
import struct
import threading

TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "AAAA": 28, "SRV": 33}


def name_bytes(name):
    labels = [label.encode() for label in name.strip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


class DnsServer:
    def __init__(self):
        self.records = {}           # (name, type) -> (values, ttl)
        self.mode = "answer"
        self.questions = []         # (name, type)
        self.lock = threading.Lock()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def set(self, name, kind, values, ttl=1):
        with self.lock:
            self.records[name, kind] = (values, ttl)

    def remove(self, name):
        with self.lock:
            self.records = {key: value for key, value in self.records.items() if key[0] != name}

    def asked(self, name):
        with self.lock:
            return sum(1 for question in self.questions if question[0] == name)

    def close(self):
        self.socket.close()

    def serve(self):
        while True:
            try:
                packet, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            with self.lock:
                reply = self.reply(packet)
            if reply:
                self.socket.sendto(reply, peer)

    def reply(self, packet):
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1:at + 1 + packet[at]].decode())
            at += 1 + packet[at]
        name = ".".join(labels).lower()
        kind = {number: text for text, number in TYPES.items()}.get(
            struct.unpack(">H", packet[at + 1:at + 3])[0], "?")
        question = packet[12:at + 5]
        self.questions.append((name, kind))
        if self.mode == "silent":
            return None
        head = packet[:2]
        if self.mode == "servfail":
            return head + struct.pack(">HHHHH", 0x8182, 1, 0, 0, 0) + question
        answers = []
        while (name, "CNAME") in self.records and kind != "CNAME":
            values, ttl = self.records[name, "CNAME"]
            answers.append(self.record(name, "CNAME", values[0], ttl))
            name = values[0]
        values, ttl = self.records.get((name, kind), ([], 1))
        answers += [self.record(name, kind, value, ttl) for value in values]
        exists = answers or any(key[0] == name for key in self.records)
        flags = 0x8180 if exists else 0x8183
        return (head + struct.pack(">HHHHH", flags, 1, len(answers), 0, 0) + question + b"".join(answers))

    @staticmethod
    def record(name, kind, value, ttl):
        if kind == "A":
            data = socket.inet_pton(socket.AF_INET, value)
        elif kind == "AAAA":
            data = socket.inet_pton(socket.AF_INET6, value)
        elif kind == "SRV":
            priority, weight, port, host = value
            data = struct.pack(">HHH", priority, weight, port) + name_bytes(host)
        else:
            data = name_bytes(value)
        return name_bytes(name) + struct.pack(">HHIH", TYPES[kind], 1, ttl, len(data)) + data
