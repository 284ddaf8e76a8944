"""Kill commands at random moments, resume them, and compare with an undisturbed run."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_geosr.io.unfinished_files.journal import read_journal

#: Runs commands, each in a separate process in which everything is imported already.
#: Every tile is reported and then recorded in the journal at once. Speeds are fixed,
#: because tiles and chunks depend on them. Groups of slices are small, so that there
#: are several.
_SERVER = """
import faulthandler, json, os, signal, sys
import matplotlib.figure, tifffile, torch, zarr
from napari_geosr.cli.app import run
from napari_geosr.inference import compute
from napari_geosr.io.unfinished_files import journal
import napari_geosr.io.formats.ome_zarr.writer, napari_geosr.io.formats.tiff.writer
from napari_geosr.operations import measure, study
from napari_geosr.operations.measure import files
from napari_geosr.operations.measure import journal as measuring
from napari_geosr.measure import blocks
from napari_geosr.operations.reconstruct import scan
from napari_geosr.operations.restore import verdict, run as restoring
journal._MIN_INTERVAL = journal._INTERVAL_FACTOR = 0.0
scan._GROUP_CPU = 2
compute.known_speed = compute.seconds_per_voxel = lambda *_: 4e-5
measuring._MIN_INTERVAL = measuring._WRITE_TIME_FACTOR = 0.0
measuring._MIN_VOXELS, blocks.SLAB_VOXELS = 1, 2 * 40 * 40
save = measuring._Part.save

def saved(self, state):
    print(f"tile {self.path}", flush=True)
    save(self, state)

measuring._Part.save = saved
note = journal.Journal.note

def noted(self, box, facts=None):
    print(f"tile {self.output.temporary}", flush=True)
    note(self, box, facts)

journal.Journal.note = noted
faulthandler.register(signal.SIGUSR1, sys.stdout)
for line in sys.stdin:
    child = os.fork()
    if not child:
        code = 1
        try:
            print(f"begun {os.getpid()}", flush=True)
            code = run(json.loads(line))
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    # In a line of its own, also where the command was killed in the middle of one.
    print(f"\\nended {os.waitstatus_to_exitcode(status)}", flush=True)
"""


#: Seconds without output after which a command counts as hanging; a test has 600.
_PATIENCE = float(os.environ.get("GEOSR_TEST_PATIENCE", "200"))


class Commands:
    """Starts commands of napari-geosr, one after the other, and kills them."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            self._lines.put(line.strip())
        self._lines.put("ended -1")

    def run(
        self, words: Sequence[str], n_tiles: int | None = None, seconds: float = 0.0
    ) -> tuple[int, list[str]]:
        """Run a command; kill it some `seconds` after it has reported this number of
        tiles.

        Returns
        -------
        code : int
            -9 if it was killed.
        said : list of str
        """
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(list(words)) + "\n")
        self._server.stdin.flush()
        said: list[str] = []
        pid, left, deadline = 0, n_tiles, None
        while True:
            if pid and left is not None and left <= 0 and deadline is None:
                deadline = time.monotonic() + seconds
            try:
                line = self._lines.get(
                    timeout=_PATIENCE
                    if deadline is None
                    else max(0.0, deadline - time.monotonic())
                )
            except queue.Empty:
                assert deadline is not None, "\n".join([*said, *self._stacks(pid)])
                os.kill(pid, signal.SIGKILL)
                deadline = left = None
                continue
            said.append(line)
            kind, _, rest = line.partition(" ")
            if kind == "begun":
                pid = int(rest)
            elif kind == "tile" and left is not None:
                left -= 1
            elif kind == "ended":
                return int(rest), said

    def _stacks(self, pid: int) -> list[str]:
        """End a hanging command, and return what each of its threads was doing."""
        if not pid:
            return ["The server did not begin the command."]
        os.kill(pid, signal.SIGUSR1)
        time.sleep(1)
        os.kill(pid, signal.SIGKILL)
        said: list[str] = []
        while not said or not said[-1].startswith("ended"):
            said.append(self._lines.get(timeout=_PATIENCE))
        return said

    def close(self) -> None:
        """End the server."""
        with self._server:  # closes its pipes, and waits for it
            assert self._server.stdin is not None
            self._server.stdin.close()
            self._reader.join(60)


@dataclass
class Tally:
    """Results of killing one operation.

    Attributes
    ----------
    kills : int
        Number of times it was killed.
    finished, identical : int
        Number of times it finished after some kills, and with identical bytes.
    resumed : int
        Number of starts that resumed the finished part of a killed run.
    lost : int
        Maximum number of written tiles that had to be computed again after a kill.
    """

    operation: str
    kills: int = 0
    finished: int = 0
    identical: int = 0
    resumed: int = 0
    lost: int = 0

    def row(self) -> str:
        """A row of the table in docs/evidence/reliability.md."""
        return (
            f"| {self.operation} | {self.kills} | {self.identical} of {self.finished} "
            f"| {self.resumed} | {self.lost} |"
        )


def n_noted(part: Path) -> int:
    """Tiles of an unfinished file that need not be computed again."""
    entry = read_journal(part)
    return 0 if entry is None else len(entry.boxes)


def kill_often(
    commands: Commands,
    operation: str,
    words: Sequence[str],
    out: Path,
    same: Callable[[Path], bool],
    *,
    n_kills: int,
    seed: int,
    n_tiles: int,
    seconds: float = 0.3,
    resuming: Sequence[str] = ("--continue",),
    noted: Callable[[Path], int] = n_noted,
    is_renamed: bool = False,
) -> Tally:
    """Kill a command repeatedly, until it was killed often enough and has finished.

    Parameters
    ----------
    words : sequence of str
        The command, which writes to `out`.
    same : callable
        Whether the output equals that of an undisturbed run.
    n_tiles : int
        Number of tiles of an undisturbed run; the kill follows a random one of them.
    seconds : float
        Maximum time between that tile and the kill; twenty times as long before the
        first tile.
    resuming : sequence of str
        Arguments added if a killed run has finished something.
    noted : callable
        Returns the amount finished.
    is_renamed : bool
        Whether a resumed run continues under a different name. Otherwise a new name is
        another output, such as the next volume of a study.
    """
    rng, tally = np.random.default_rng(seed), Tally(operation)
    print(f"{operation}: seed {seed}")
    is_whole = False
    while tally.kills < n_kills or not is_whole:
        before = {part: noted(part) for part in _parts(out)}
        goes_on = any(before.values())
        tally.resumed += goes_on
        command = [*words, *(resuming if goes_on else ())]
        # If there are few kills, none is wasted on a run that has nothing to lose yet.
        first = 0 if n_kills > 2 else 2
        after = int(rng.integers(first, n_tiles + 1))
        pause = rng.uniform(0, seconds * (1 if after else 20))
        enough = tally.kills >= n_kills
        code, said = commands.run(command, None if enough else after, pause)
        assert code in (0, -9), "\n".join(said)
        tally.kills += code != 0
        is_whole = code == 0 or bool(out.suffix and out.exists())
        if is_whole:
            tally.finished += 1
            tally.identical += same(out)
            print(tally.row(), flush=True)
            _remove(out)
            assert not list(_parts(out)), "a file in the making was left"
            continue
        tiles = (line.removeprefix("tile ") for line in said if line[:5] == "tile ")
        for name, n_written in Counter(tiles).items():
            part = Path(name)
            if part.exists():
                earlier = sum(before.values()) if is_renamed else 0
                new = noted(part) - before.get(part, earlier)
                tally.lost = max(tally.lost, n_written - new)
        kept = [part for part in _parts(out) if noted(part)]
        assert len(kept) <= 1, "files in the making pile up"
    return tally


def _parts(out: Path) -> list[Path]:
    """Unfinished files of `out`, or inside it if it is a folder."""
    folder = out if out.is_dir() and out.suffix == "" else out.parent
    found = folder.rglob(".*.partial*")
    return [
        p
        for p in found
        if ".journal.json" not in p.name
        and ".zarr/" not in f"{p}"
        and p.suffix != ".new"
    ]


def _remove(out: Path) -> None:
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink()
