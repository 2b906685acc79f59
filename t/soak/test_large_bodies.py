"""10 GB each way through a slow peer: the worker must not grow by 1 MiB."""
import large_bodies
import pytest

TEN_GB = 10_000_000_000 // large_bodies.MIB


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("way", ["download", "upload"])
def test_ten_gigabytes(proxy, upstream, way, framing):
    getattr(large_bodies, way)(proxy, upstream, framing, TEN_GB)
