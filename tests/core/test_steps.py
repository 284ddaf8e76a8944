"""Steps: running a generator to its end."""

from __future__ import annotations

from napari_geosr.core.steps import (
    BlockDone,
    IterationDone,
    StageStarted,
    StepIterator,
    TargetReady,
    TileDone,
    WarningIssued,
    recount,
    run_to_end,
)


def test_run_to_end_returns_the_result_and_closes():
    closed = []

    def steps():
        try:
            yield BlockDone(done=1, total=1)
            return 42
        finally:
            closed.append(True)

    seen = []
    assert run_to_end(steps(), seen.append) == 42
    assert closed == [True]
    assert isinstance(seen[0], BlockDone)


def test_an_iterator_keeps_the_result_and_closes_what_is_left():
    closed = []

    def steps():
        try:
            yield TileDone(1, 2)
            yield TileDone(2, 2)
            return "made"
        finally:
            closed.append(True)

    with StepIterator(steps()) as iterator:
        assert [step.done for step in iterator] == [1, 2]
    assert iterator.result == "made"
    with StepIterator(steps()) as iterator:
        walk = iter(iterator)
        next(walk)
        assert closed == [True]
    assert closed == [True, True]
    assert not hasattr(iterator, "result")


def test_an_inner_run_is_counted_in_blocks():
    def inner():
        yield StageStarted(0, 9, message="Reading")
        yield WarningIssued(message="Dark")
        yield TileDone(1, 4)
        yield TargetReady(volume="v")
        yield IterationDone(2, 4, residual=0.5)
        return "made"

    seen = []
    assert run_to_end(recount(inner()), seen.append) == "made"
    assert seen == [BlockDone(0, 9), BlockDone(1, 4), BlockDone(2, 4)]
    told = []
    assert (
        run_to_end(recount(inner(), StageStarted, WarningIssued), told.append) == "made"
    )
    assert told[:2] == [StageStarted(message="Reading"), WarningIssued(message="Dark")]
    assert told[2:] == [BlockDone(1, 4), BlockDone(2, 4)]


def test_an_inner_run_that_is_counted_is_closed():
    closed = []

    def inner():
        try:
            yield TileDone(1, 2)
            yield TileDone(2, 2)
        finally:
            closed.append(True)

    steps = recount(inner())
    assert next(steps) == BlockDone(1, 2)
    steps.close()
    assert closed
