"""Read, compute and write at the same time, in bounded memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Block = TypeVar("Block")
Result = TypeVar("Result")
Written = TypeVar("Written")

#: Maximum number of items read ahead, and of items waiting to be written. The memory
#: model includes both.
DEPTH = 2
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class _EndOfItems:
    """Marks the end of the items."""


class Pipeline(Generic[Item, Block, Result, Written]):
    """A reader and a writer thread around a computation in the caller's thread.

    The reader runs at most `depth` items ahead and at most `depth` results wait to be
    written. A read error is raised by `take` when its item is due, and a write error by
    every later `take`, `put` or `flush`, because nothing further is written. Leaving
    the context always ends both threads; results passed to `put` are still written,
    unless writing itself failed.

    Parameters
    ----------
    read : callable
        ``read(item) -> block``, in the reader thread.
    write : callable
        ``write(item, result) -> written``, in the writer thread.
    depth : int
    """

    def __init__(
        self,
        read: Callable[[Item], Block],
        write: Callable[[Item, Result], Written],
        depth: int = DEPTH,
    ) -> None:
        self._read, self._write, self._depth = read, write, depth
        self._read_error: BaseException | None = None
        self._write_error: BaseException | None = None
        self._n_put = self._n_reported = 0
        self._reader: threading.Thread | None = None
        self._stop_reading = threading.Event()
        self._blocks: queue.Queue[tuple[Item, Block] | _EndOfItems] = queue.Queue()
        self._results: queue.Queue[tuple[Item, Result] | _EndOfItems] = queue.Queue(
            max(1, depth - 1)
        )
        self._written: queue.SimpleQueue[tuple[Item, Written]] = queue.SimpleQueue()
        self._writer = threading.Thread(
            target=self._write_all, name="geosr-writer", daemon=True
        )

    def __enter__(self) -> Self:
        self._writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_reading()
        self._results.put(_EndOfItems())
        self._writer.join()

    def start_reading(self, items: Iterable[Item]) -> None:
        """Start reading `items`, and drop anything read ahead earlier."""
        self.stop_reading()
        self._read_error = None
        stop = self._stop_reading = threading.Event()
        # One block is held by the thread, so the queue is one shorter.
        self._blocks = queue.Queue(max(1, self._depth - 1))
        self._reader = threading.Thread(
            target=self._read_all,
            args=(list(items), self._blocks, stop),
            name="geosr-reader",
            daemon=True,
        )
        self._reader.start()

    def stop_reading(self) -> None:
        """Stop the reader thread and drop the blocks that it has read ahead."""
        self._stop_reading.set()
        if self._reader is not None:
            while self._reader.is_alive():
                self._drain(self._blocks)
                self._reader.join(_POLL_SECONDS)
            self._drain(self._blocks)
            self._reader = None

    def take(self, while_waiting: Callable[[], None]) -> tuple[Item, Block]:
        """Return the next item with its block; call `while_waiting` periodically."""
        while True:
            self._raise_write_error()
            try:
                entry = self._blocks.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                while_waiting()
                continue
            if isinstance(entry, _EndOfItems):
                self._raise_read_error()
                raise IndexError("there are no items left")
            return entry

    def put(self, item: Item, result: Result) -> None:
        """Hand a result to the writer; wait while `depth` others are queued."""
        while True:
            # Ignore read errors here: they must not discard the current result.
            self._raise_write_error()
            try:
                self._results.put((item, result), timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            self._n_put += 1
            return

    def written(self) -> list[tuple[Item, Written]]:
        """Return the items written since the last call."""
        written = []
        while not self._written.empty():
            written.append(self._written.get())
        self._n_reported += len(written)
        return written

    def n_unwritten(self) -> int:
        """Return the number of results not yet reported by `written`."""
        return self._n_put - self._n_reported

    def flush(self) -> None:
        """Wait until everything submitted so far is written."""
        self._results.join()
        self._raise_write_error()

    def _raise_read_error(self) -> None:
        if self._read_error is not None:
            error, self._read_error = self._read_error, None
            raise error

    def _raise_write_error(self) -> None:
        if self._write_error is not None:
            raise self._write_error

    def _read_all(
        self,
        items: list[Item],
        blocks: queue.Queue[tuple[Item, Block] | _EndOfItems],
        stop: threading.Event,
    ) -> None:
        for item in items:
            if stop.is_set():
                return
            try:
                block = self._read(item)
            except BaseException as error:  # noqa: BLE001 - raised again by the caller
                self._read_error = error
                break
            if not _offer(blocks, (item, block), stop):
                return
            del block
        _offer(blocks, _EndOfItems(), stop)

    def _write_all(self) -> None:
        while True:
            entry = self._results.get()
            try:
                if isinstance(entry, _EndOfItems):
                    return
                if self._write_error is None:
                    item, result = entry
                    self._written.put((item, self._write(item, result)))
            except BaseException as error:  # noqa: BLE001 - raised again by the caller
                self._write_error = error
            finally:
                self._results.task_done()
                del entry

    @staticmethod
    def _drain(blocks: queue.Queue[tuple[Item, Block] | _EndOfItems]) -> None:
        while True:
            try:
                blocks.get_nowait()
            except queue.Empty:
                return


def _offer(
    blocks: queue.Queue[tuple[Item, Block] | _EndOfItems],
    entry: tuple[Item, Block] | _EndOfItems,
    stop: threading.Event,
) -> bool:
    while not stop.is_set():
        try:
            blocks.put(entry, timeout=_POLL_SECONDS)
        except queue.Full:
            continue
        return True
    return False
