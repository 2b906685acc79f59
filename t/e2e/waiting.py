"""Waiting for conditions with a deadline: no test sleeps for a guess."""
import time

# Seconds until something that ought to happen counts as not happening. Long, because the machine
# may be busy and the program sanitized; nobody waits that long where all is well.
DEADLINE = 30


def eventually(condition, what, seconds=DEADLINE):
    """Calls condition() until it returns something true, and returns that."""
    until = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.003)
