"""A stand-in for the master at its control socket, and messages by hand, for the command line's tests."""
import array
import json
import os
import socket
import threading


def connect(path):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(20)
    client.connect(path)
    return client


def receive(connection):
    """One message and its descriptors; None at the end."""
    descriptors = array.array("i")
    room = (1 << 16, socket.CMSG_SPACE(4 * 4))
    try:
        data, ancillary, _, _ = connection.recvmsg(*room)
    except ConnectionResetError:    # closed without reading what it was sent; its word comes next
        data, ancillary, _, _ = connection.recvmsg(*room)
    for level, kind, part in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(part[:len(part) // 4 * 4])
    return (json.loads(data), list(descriptors)) if data else (None, [])


def ask(path, command, **body):
    """One request to a real master; its reply, without descriptors."""
    with connect(path) as client:
        client.send(json.dumps({"v": 1, "id": 1, "command": command, **body}).encode())
        reply, descriptors = receive(client)
        for descriptor in descriptors:
            os.close(descriptor)
        return reply


class FakeMaster:
    """Answers each request with what `script` makes of it: bytes, a dict (id and version are filled
    in), or None to close without a word. Keeps the requests."""

    def __init__(self, path, script):
        self.requests = []
        self.script = script
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(path)
        self.socket.listen(8)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            with connection:
                request, _ = receive(connection)
                if request is None:
                    return
                self.requests.append(request)
                reply = self.script(request)
                if isinstance(reply, dict):
                    reply = json.dumps({"v": 1, "id": request["id"], **reply}).encode()
                if reply is not None:
                    connection.send(reply)

    def close(self):
        """An empty connection ends the thread."""
        self.socket.settimeout(None)
        connect(self.socket.getsockname()).close()
        self.thread.join(20)
        self.socket.close()
