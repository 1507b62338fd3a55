import re
from asyncio import sslproto
from pathlib import Path

from longtask_operator.adapters import kube

ROOT = Path(__file__).resolve().parents[3]
RECORD = 16 * 1024 + 256  # the most that a record of TLS 1.3 may have (RFC 8446, section 5.2)


def test_a_read_takes_a_whole_record_and_no_memory_from_the_kernel() -> None:
    assert kube.sslproto is sslproto
    from_the_kernel = re.search(r"MALLOC_MMAP_THRESHOLD_=(\d+)", (ROOT / "operator" / "Dockerfile").read_text())
    assert from_the_kernel
    assert RECORD <= sslproto.SSLProtocol.max_size < int(from_the_kernel[1])
