"""Runs the load client and its upstream (client.cc, upstream.cc) for tests.

    with LoadUpstream("app") as server, LoadClient(port, connections=64, rate=2000) as load:
        load.window("warm")              # what was counted since the last call, as a dict
        ...
        total = load.stop()              # of all windows
        assert not total["failures"], describe(total)

Both end with the process that started them, by the kernel's hand if it is killed. They must be
started by its main thread, because the kernel counts the end of the starting thread.
"""
import json
import os
import subprocess

BUILD = os.environ.get("GATEHOUSE_BUILD", os.path.abspath("build"))


class LoadUpstream:
    """Answers "NAME TARGET" to each GET, and echoes WebSocket frames."""

    def __init__(self, name="upstream", port=0):
        self.name = name
        self.process = subprocess.Popen(
            [f"{BUILD}/load/upstream", f"--name={name}", f"--port={port}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        words = self.process.stdout.readline().split()
        assert words[:1] == ["port"], f"the upstream says {words}"
        self.port = int(words[1])
        self.target = f"http://127.0.0.1:{self.port}"

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class LoadClient:
    """Options are those of client.cc, with _ for -; True for those without a value."""

    def __init__(self, port, **options):
        words = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
                 for name, value in {"port": port, **options}.items()]
        self.process = subprocess.Popen([f"{BUILD}/load/client", *words], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.total = None

    def read(self):
        line = self.process.stdout.readline()
        assert line, f"the load client has ended with {self.process.wait()}"
        return json.loads(line)

    def window(self, name="window"):
        """What was counted since the last window began. A new one begins."""
        self.process.stdin.write(f"window {name}\n")
        self.process.stdin.flush()
        return self.read()

    def stop(self):
        """Waits for the answers under way; gives the last window and the sum of all."""
        if self.total is None:
            self.process.stdin.write("stop\n")
            self.process.stdin.flush()
            self.last, self.total = self.read(), self.read()
            assert self.process.wait() == 0
        return self.total

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def failures(counted):
    return sum(counted["failures"].values())


def describe(counted):
    """A few lines for people, with the first examples of each kind of failure."""
    http, echoes = counted["http"], counted["websockets"]["echoes"]
    lines = [f"{counted['sent']} requests in {counted['seconds']:.1f} s, {failures(counted)} failures,"
             f" p50 {http['p50_us'] / 1000:.2f} ms, p99 {http['p99_us'] / 1000:.2f} ms,"
             f" max {http['max_us'] / 1000:.1f} ms; {counted['closes']} clean closes;"
             f" {echoes['count']} echoes, p99 {echoes['p99_us'] / 1000:.2f} ms,"
             f" max {echoes['max_us'] / 1000:.1f} ms"]
    for kind, count in counted["failures"].items():
        lines.append(f"  {count} {kind}: " + " | ".join(
            example[:160].replace("\r\n", "\\n") for example in counted["examples"][kind]))
    return "\n".join(lines)
