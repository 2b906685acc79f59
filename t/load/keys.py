"""Runs the client that checks rate limits (keys.cc); options are its own, with _ for -."""
import json
import subprocess

from load_clients import BUILD


class Keys:
    """Runs beside the test; result() waits for its end."""

    def __init__(self, port, **options):
        words = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
                 for name, value in {"port": port, **options}.items()]
        self.process = subprocess.Popen([f"{BUILD}/load/keys", *words], text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def result(self, timeout=600):
        """What it counted, with whole numbers for the keys of "statuses" and "by_admitted"."""
        try:
            output, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        assert self.process.returncode == 0, f"the client ended with {self.process.returncode}"
        found = json.loads(output)
        for name in ("statuses", "by_admitted"):
            found[name] = {int(key): value for key, value in found[name].items()}
        return found


def read_map(path):
    """What --map has written: for each key the name of its last answer, or None."""
    with open(path) as file:
        names = file.readline().split()
        return [names[number] if number >= 0 else None for number in map(int, file)]


def ask_keys(port, **options):
    return Keys(port, **options).result()
