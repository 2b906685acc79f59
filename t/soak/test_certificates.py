"""The certificate is swapped every second for a minute, under load: no handshake and no request
fails, and within a second all workers show the new one."""
import os

from certificates import Authority
from control import reloadable
from swapping import swap_under_load

SHARE = float(os.environ.get("GATEHOUSE_SOAK", "1"))


def test_swapped_every_second(gateway, folder):
    authority = Authority()
    authority.leaf(["swap.test"]).write(folder, "swap")
    one = reloadable(gateway, "[listener a]\naddress = 127.0.0.1:0\ntls = on\n"
                     "[route all]\nlistener = a\nreply = 200\n"
                     f"[certificate swap]\ncertificate = {folder}/swap.pem\n"
                     f"key = {folder}/swap.key\n", workers=2)
    one.sent = None
    pids = one.workers()
    slowest, seen = swap_under_load(one, folder, authority, authority.write(folder),
                                    times=max(5, round(60 * SHARE)), every=1)
    print(f"{seen} handshakes; the slowest swap took {slowest * 1000:.0f} ms")
    assert slowest < 1
    assert one.workers() == pids and one.status()["generation"] == 1
