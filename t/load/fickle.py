"""Targets that fail on command (fickle.cc).

    with Fickle("one") as target:
        target.set("answer 500 share 5")     # or "hang", "dead", "blackhole", "answer 200 delay 300"
        target.stats()["most"]               # requests that were under way at one time
        target.reset()                       # counts from zero

Like the load client it ends with the process that started it, and must be started by its main thread.
"""
import json
import subprocess

from load_clients import BUILD

WELL = "answer 200"


class Fickle:
    def __init__(self, name, port=0):
        self.name = name
        self.process = subprocess.Popen(
            [f"{BUILD}/load/fickle", f"--name={name}", f"--port={port}"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        words = self.process.stdout.readline().split()
        assert words[:1] == ["port"], f"the target says {words}"
        self.port = int(words[1])
        self.address = f"127.0.0.1:{self.port}"
        self.target = f"http://{self.address}"

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the target {self.name} has ended with {self.process.wait()}"
        return json.loads(line)

    def set(self, behaviour):
        """Returns when the target behaves so."""
        return self.tell(behaviour)

    def stats(self):
        return self.tell("stats")

    def reset(self):
        return self.tell("reset")

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
