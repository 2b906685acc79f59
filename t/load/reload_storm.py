"""Reloads in a row under load, and what came of them: the same for every kind of server."""
import time

from load_clients import describe, failures
from reload_configs import PERIOD
from reload_servers import KeptConnections

FIRST = 20          # memory is compared from this reload on; the end is a multiple of PERIOD later


class Storm:
    """The figures of many reloads."""

    def __init__(self):
        self.reloads = []           # Reload
        self.wrong = []             # what should not have been: text
        self.first = self.last = None   # {pid: Footprint} at FIRST and at the end
        self.sizes = []             # after each reload: {pid: KiB of memory of its own}
        self.processes_most = 0
        self.total = None           # of the load client
        self.asked = 0              # further requests that were answered

    def grown(self):
        """[(first, last)] Footprints of the processes that were there at both moments."""
        return [(self.first[pid], self.last[pid]) for pid in self.first if pid in self.last]

    def report(self, name):
        times = sorted(reload.returned for reload in self.reloads)
        everywhere = sorted(r.everywhere for r in self.reloads if r.everywhere is not None)
        slowest = max(self.reloads, key=lambda reload: reload.returned)
        lines = [f"{name}: {len(self.reloads)} reloads"
                 f" ({sum(r.code != 0 for r in self.reloads)} refused)",
                 "  the command returned after " + spread(times)]
        lines.append(f"  the slowest was number {self.reloads.index(slowest) + 1}, begun at"
                     f" {slowest.began:.3f}")
        if everywhere:
            lines.append("  all were answered by the new configuration after " + spread(everywhere))
        if self.total:
            counted = self.total
            lines.append("  " + describe(counted).replace("\n", "\n  "))
            lines.append(f"  {failures(counted)} of {counted['sent']} requests or WebSockets failed")
        if self.first and self.last:
            lines.append(f"  processes: {len(self.first)} at reload {FIRST}, {len(self.last)} at the end,"
                         f" most {self.processes_most}")
            lines.append(f"  memory of all: {sum(f.pss for f in self.first.values())} KiB pss at reload"
                         f" {FIRST}, {sum(f.pss for f in self.last.values())} KiB at the end")
            for before, after in self.grown():
                lines.append(f"    {after}; at reload {FIRST}: {before.alone} alone, {before.shared}"
                             f" shared, {before.pss} pss, {before.kept} kept")
            for before, _ in self.grown():
                some = [sizes.get(before.pid, 0) for sizes in self.sizes[FIRST - 1::20]]
                lines.append(f"    {before.title}: KiB alone every 20 reloads: {some}")
        lines += [f"  late: {kind} at {at / 1e6:.3f}" for kind, at, _ in
                  (self.total["failed"][:3] if self.total else [])]
        lines += [f"  WRONG: {text}" for text in self.wrong[:20]]
        return "\n".join(lines)


def spread(values):
    return (f"{values[len(values) // 2] * 1000:.0f} ms (median; {values[0] * 1000:.0f}"
            f" to {values[-1] * 1000:.0f})")


def blow(server, load, reloads, *, patience, pause=0.0):
    """Reloads `server`, which runs variant 0, that often under `load`, and stops the load.
    `patience`: seconds that a listener may take to come and go after the command has returned and
    the new configuration answers."""
    storm = Storm()
    kept = KeptConnections(server.scene.port, 8)
    try:
        for n in range(1, reloads + 1):
            try:
                began = time.monotonic()
                result = server.reload(n)
                result.began = began
                storm.reloads.append(result)
                if result.code != 0:
                    storm.wrong.append(f"reload {n}: exit code {result.code}: {result.output}")
                else:
                    server.check_probes(n, patience)
                    answers = set(kept.ask_all())
                    if answers != {str(n)}:
                        storm.wrong.append(f"reload {n}: kept connections get {answers}")
            except (AssertionError, OSError) as error:
                storm.wrong.append(f"reload {n}: {error!r}")
            now = server.footprints()
            storm.processes_most = max(storm.processes_most, len(now))
            storm.sizes.append({pid: footprint.alone for pid, footprint in now.items()})
            if n == min(FIRST, max(1, reloads - PERIOD)):
                storm.first = now
            time.sleep(pause)
        storm.last = server.footprints()
    finally:
        kept.close()
    storm.total = load.stop()
    storm.asked = kept.asked + server.requests
    return storm


def check_flat(storm):
    """Between the two moments nothing has grown: no process, no memory, no descriptor."""
    assert len(storm.first) == len(storm.last), storm.report("processes were added")
    assert len(storm.grown()) >= 2, storm.report("the processes are others than before")
    for before, after in storm.grown():
        # Allowances for what malloc keeps, and for the segment's pages that a worker touches late.
        assert after.alone <= before.alone + 512, f"{before} became {after}"
        assert after.shared <= before.shared + 256, f"{before} became {after}"
        assert after.kept <= before.kept, f"{before} became {after}"
