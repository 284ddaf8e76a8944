from __future__ import annotations

import threading
import time

import pytest

from napari_geosr.inference.pipeline import Pipeline


def nothing() -> None:
    pass


def run(items, read, compute, write, depth=2):
    found = []
    with Pipeline(read, write, depth) as pipe:
        pipe.start_reading(items)
        for _ in items:
            item, block = pipe.take(nothing)
            pipe.put(item, compute(block))
            found += pipe.written()
        pipe.flush()
        found += pipe.written()
    return found


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("geosr-")]


def test_everything_passes_through_in_order():
    found = run(range(20), lambda i: i * 10, lambda b: b + 1, lambda i, r: (i, r))
    assert found == [(i, (i, i * 10 + 1)) for i in range(20)]
    assert not threads()


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_no_more_than_depth_blocks_are_alive(depth):
    alive, most = set(), []
    lock = threading.Lock()

    def read(i):
        with lock:
            alive.add(i)
            most.append(len(alive))
        return i

    def compute(i):
        time.sleep(0.003)
        with lock:
            alive.discard(i)
        return i

    run(range(12), read, compute, lambda i, r: None, depth)
    assert max(most) <= max(2, depth) + 1


@pytest.mark.parametrize("stage", ["read", "write"])
def test_an_error_surfaces_within_one_item(stage):
    taken = []

    def read(i):
        if stage == "read" and i == 5:
            raise KeyError("in reading")
        return i

    def write(i, r):
        if stage == "write" and i == 5:
            raise KeyError("in writing")

    def compute(b):
        taken.append(b)
        time.sleep(0.01)
        return b

    with pytest.raises(KeyError, match="in "):
        run(range(50), read, compute, write)
    assert len(taken) <= 5 + 3
    assert not threads()


def test_what_was_handed_in_is_written_when_the_caller_fails():
    written = []

    def write(i, r):
        time.sleep(0.02)
        written.append(i)

    def compute(b):
        if b == 3:
            raise ValueError("stop")
        return b

    with pytest.raises(ValueError, match="stop"):
        run(range(9), lambda i: i, compute, write)
    assert written == [0, 1, 2]


def test_reading_can_start_anew():
    with Pipeline(lambda i: i, lambda i, r: r) as pipe:
        pipe.start_reading(range(100))
        assert pipe.take(nothing) == (0, 0)
        pipe.start_reading([7, 8])
        assert pipe.take(nothing) == (7, 7)
    assert not threads()


def test_the_caller_is_asked_while_it_waits():
    def slow(i):
        time.sleep(0.3)
        return i

    class StopError(Exception):
        pass

    def stop():
        raise StopError

    with Pipeline(slow, lambda i, r: r) as pipe:
        pipe.start_reading([1])
        with pytest.raises(StopError):
            pipe.take(stop)
    assert not threads()


def test_what_was_read_before_an_error_is_given_first():
    failed = threading.Event()

    def read(i):
        if i == 1:
            failed.set()
            raise KeyError("in reading")
        return i

    with Pipeline(read, lambda i, r: r) as pipe:
        pipe.start_reading([0, 1])
        failed.wait(5)
        time.sleep(0.05)
        assert pipe.take(nothing) == (0, 0)
        with pytest.raises(KeyError, match="in reading"):
            pipe.take(nothing)
