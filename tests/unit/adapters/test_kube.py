import asyncio
import re
import ssl
from asyncio import sslproto
from pathlib import Path

import longtask_operator.adapters.kube  # noqa: F401 - this sets what is tested

ROOT = Path(__file__).resolve().parents[3]
RECORD = 16 * 1024 + 256  # the most that a record of TLS 1.3 may have (RFC 8446, section 5.2)


async def test_a_read_takes_a_whole_record_and_no_memory_from_the_kernel() -> None:
    from_the_kernel = re.search(r"MALLOC_MMAP_THRESHOLD_=(\d+)", (ROOT / "operator" / "Dockerfile").read_text())
    assert from_the_kernel
    loop = asyncio.get_running_loop()
    connection = sslproto.SSLProtocol(loop, asyncio.Protocol(), ssl.create_default_context(), loop.create_future())
    assert RECORD <= len(connection.get_buffer(-1)) < int(from_the_kernel[1])
