"""Asks S3 how large an object is, as the AWS_* variables of the operator say where and as whom. It reads no content.

botocore is loaded at the first question: it takes 20 MiB, and without a place to ask nobody needs it. It blocks,
so threads do the asking; no question takes longer than its bound, and no thread is held by a store that trickles.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

#: Questions at the same time, and how long one of them may take. S3 answers in tens of milliseconds.
CONNECTIONS, ANSWER_SECONDS = 8, 3.0
#: Loading takes 1 s, on a busy machine more; finding credentials may ask another server.
_LOAD_SECONDS = 30.0


class SizeUnknown(Exception):  # noqa: N818 - an answer, not an error of ours
    """Nobody said how large it is. *of_store*: no object of the store can be asked for now."""

    def __init__(self, why: str, *, of_store: bool = False) -> None:
        super().__init__(why)
        self.of_store = of_store


class S3Sizes:
    """Objects by their s3:// URIs."""

    def __init__(self, *, seconds: float = ANSWER_SECONDS) -> None:
        self._seconds = seconds
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="object-sizes")
        self._loading = threading.Lock()
        self._client: Any = None

    async def size_of(self, uri: str) -> int:
        """Return the size of an object in bytes. Raises SizeUnknown with a reason that names no host and no secret."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if self._client is None:
            await self._in_thread(self._load, _LOAD_SECONDS)
        return await self._in_thread(lambda: self._head(bucket, key), self._seconds)

    async def _in_thread(self, work: Callable[[], T], seconds: float) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._pool, _answering, work)
        try:
            return await asyncio.wait_for(running, seconds)
        except TimeoutError:
            raise SizeUnknown(f"the store did not answer within {seconds:g} s", of_store=True) from None

    def _head(self, bucket: str, key: str) -> int:
        return int(self._client.head_object(Bucket=bucket, Key=key)["ContentLength"])

    def _load(self) -> None:
        """Make the client, which threads may share once it is made."""
        from botocore.config import Config
        from botocore.session import Session

        with self._loading:
            if self._client is None:
                config = Config(
                    connect_timeout=self._seconds,
                    read_timeout=self._seconds,
                    retries={"mode": "standard", "total_max_attempts": 1},
                    max_pool_connections=CONNECTIONS,
                )
                client = Session().create_client("s3", config=config)
                _bound_answers(client, self._seconds)
                self._client = client


class _Bounded:
    """A connection that answers within *seconds* in all: the time-outs of sockets begin anew with each byte."""

    seconds: float
    sock: socket.socket | None

    def connect(self) -> None:
        """Connect, which is more than a handshake where a proxy stands between. Raises TimeoutError."""
        with self._in_time():
            super().connect()  # type: ignore[misc]

    def getresponse(self) -> Any:
        """Return status and headers; HEAD has no more. Raises TimeoutError."""
        with self._in_time():
            return super().getresponse()  # type: ignore[misc]

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        late = threading.Event()

        def cut() -> None:
            late.set()
            with contextlib.suppress(OSError, TypeError):  # it is closed, or not open yet
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # type: ignore[arg-type]

        timer = threading.Timer(self.seconds, cut)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        if late.is_set():  # half an answer looks like a whole one
            raise TimeoutError(f"no answer within {self.seconds:g} s")


def _bound_answers(client: Any, seconds: float) -> None:
    """Let *client* connect by `_Bounded`. botocore has no place of its own for this: these names are its insides."""
    pools = client._endpoint.http_session._pool_classes_by_scheme
    for scheme, pool in list(pools.items()):
        connection = type("Connection", (_Bounded, pool.ConnectionCls), {"seconds": seconds})
        pools[scheme] = type("Pool", (pool,), {"ConnectionCls": connection})


def _answering(work: Callable[[], T]) -> T:
    """Return what *work* returns, its faults as SizeUnknown."""
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    try:
        return work()
    except ClientError as error:
        raise _refused(int(error.response["ResponseMetadata"]["HTTPStatusCode"])) from error
    except ParamValidationError as error:
        raise SizeUnknown("its name is none that S3 knows") from error
    except (BotoCoreError, OSError, ValueError) as error:
        raise SizeUnknown(f"the operator cannot ask the store ({type(error).__name__})", of_store=True) from error


def _refused(code: int) -> SizeUnknown:
    if code == 404:
        return SizeUnknown("there is no such object")
    if code == 403:
        return SizeUnknown("the operator may not read it")
    return SizeUnknown(f"the store answered {code}", of_store=code == 429 or code >= 500)
