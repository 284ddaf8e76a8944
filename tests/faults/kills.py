"""Kill commands at random moments, resume them, and compare with an undisturbed run."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_geosr.io.journal import read_journal

#: Runs a command; every tile is noted in the journal at once, and said before. Blocks
#: of a reconstruction are all alike: their size decides about the last digits.
_COMMAND = """
import sys
from napari_geosr.io import journal
from napari_geosr.operations.reconstruct import blocks
journal._INTERVAL = journal._PATIENCE = 0.0
blocks._FIRST_ROWS, blocks._GROWTH, blocks._PATIENCE = 2, 1, 100.0
note = journal.Journal.note

def noted(self, box, facts=None):
    print(f"tile {self.output.temporary}", flush=True)
    note(self, box, facts)

journal.Journal.note = noted
from napari_geosr.cli.app import run
print("begun", flush=True)
sys.exit(run(sys.argv[1:]))
"""


@dataclass
class Tally:
    """What the kills of one operation came to.

    Attributes
    ----------
    kills : int
        How often it was killed.
    finished, identical : int
        How often it came to its end after some kills, and with the same bytes.
    resumed : int
        How many starts took over what a killed run had finished.
    lost : int
        The most tiles that were written and had to be computed again after a kill.
    """

    operation: str
    kills: int = 0
    finished: int = 0
    identical: int = 0
    resumed: int = 0
    lost: int = 0
    said: list[str] = field(default_factory=list)

    def row(self) -> str:
        """A row of the table in docs/reliability.md."""
        return (
            f"| {self.operation} | {self.kills} | {self.identical} of {self.finished} "
            f"| {self.resumed} | {self.lost} |"
        )


def started(words: Sequence[str]) -> subprocess.Popen[str]:
    """A command of napari-geosr in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def undisturbed(words: Sequence[str]) -> list[str]:
    """What a command says that nobody kills."""
    process = started(words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said.splitlines()


def killed(
    words: Sequence[str], n_lines: int, seconds: float, tally: Tally
) -> dict[Path, int] | None:
    """Kill a command some `seconds` after it has said so many lines.

    Returns
    -------
    mapping or None
        How many tiles it had written to each file; None if it came to its end before.
    """
    process = started(words)
    assert process.stdout is not None
    said: list[str] = []
    while len(said) < n_lines and (line := process.stdout.readline()):
        said.append(line.strip())
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    said += [line.strip() for line in process.stdout.readlines()]
    process.stdout.close()
    code = process.wait(60)
    tally.said += said
    if code == 0:
        return None
    assert code == -9, "\n".join(said)
    tally.kills += 1
    files = [Path(line.removeprefix("tile ")) for line in said if "tile " in line[:5]]
    return dict(Counter(files))


def n_noted(part: Path) -> int:
    """Tiles of a file in the making that need not be computed again."""
    entry = read_journal(part)
    return 0 if entry is None else len(entry.boxes)


def kill_often(
    operation: str,
    words: Sequence[str],
    out: Path,
    same: Callable[[Path], bool],
    *,
    n_kills: int,
    seed: int,
    n_lines: int,
    seconds: float = 0.3,
    resuming: Sequence[str] = ("--continue",),
) -> Tally:
    """Kill a command again and again, until it was killed often enough and finished.

    Parameters
    ----------
    words : sequence of str
        The command, which writes to `out`.
    same : callable
        Whether what was written is the same as of an undisturbed run.
    n_lines : int
        Lines that an undisturbed run says: the kill comes after a random one of them.
    seconds : float
        Between that line and the kill, at most.
    resuming : sequence of str
        What is added where a killed run has finished something.
    """
    rng, tally = np.random.default_rng(seed), Tally(operation)
    print(f"{operation}: seed {seed}")
    while tally.kills < n_kills or not tally.finished:
        before = {part: n_noted(part) for part in _parts(out)}
        goes_on = any(before.values())
        tally.resumed += goes_on
        command = [*words, *(resuming if goes_on else ())]
        stays = tally.kills >= n_kills
        lines = 10**9 if stays else int(rng.integers(1, n_lines + 1))
        done = killed(command, lines, 60 if stays else rng.uniform(0, seconds), tally)
        if done is None or (out.suffix and out.exists()):
            tally.finished += 1
            tally.identical += same(out)
            _remove(out)
            assert not list(_parts(out)), "a file in the making was left"
            continue
        for part, n_written in done.items():
            if part.exists():
                new = n_noted(part) - before.get(part, 0)
                tally.lost = max(tally.lost, n_written - new)
        assert len(_parts(out)) <= 1, "files in the making pile up"
    print(tally.row())
    return tally


def _parts(out: Path) -> list[Path]:
    """Files in the making of `out`, or within the folder that it is."""
    folder = out if out.is_dir() and out.suffix == "" else out.parent
    found = folder.rglob(".*.partial*")
    return [
        p for p in found if ".journal.json" not in p.name and ".zarr/" not in f"{p}"
    ]


def _remove(out: Path) -> None:
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink()
