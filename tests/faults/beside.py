"""Work that goes on beside other work: whatever of it fails ends the other at once, with its own error."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V")


@contextlib.asynccontextmanager
async def beside(*works: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Do *works* as long as the block lasts. Raises the first error, be it theirs or the block's; its cause has all."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
            yield
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors


class LoopThread(Generic[V]):
    """A thread with an event loop in which a context is open, as long as the `with` lasts; *value* is what it gives."""

    value: V

    def __init__(self, context: Callable[[], AbstractAsyncContextManager[V]]) -> None:
        self._context = context
        self._ready, self._left, self._failure = threading.Event(), threading.Event(), list[BaseException]()
        self._thread = threading.Thread(target=self._run, name="loop")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* to its end in the loop. Raises what ended the context, if that ends before."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (RuntimeError, concurrent.futures.CancelledError):
            work.close()
            self._raise_failure()
            raise

    def __enter__(self) -> LoopThread[V]:
        self._thread.start()
        self._ready.wait()
        self._raise_failure()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the context ended by itself
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        if kind is None:
            self._raise_failure()

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        except BaseException as error:
            self._failure.append(error)
        finally:
            self._ready.set()

    async def _hold(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._context() as self.value:
                self._ready.set()
                await self._over.wait()
        finally:
            self._left.set()

    def _raise_failure(self) -> None:
        if self._left.is_set():
            self._thread.join()
        if self._failure:
            raise self._failure[0]
