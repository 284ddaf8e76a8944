"""Change one sign, bound or constant at a time, and check whether a test fails.

The changes are listed in ``mutations.py`` in this folder. Each is made in a copy of the
tree, never in the tree itself; then the test files that should detect it are run. If no
test detects a change, the changed behaviour is not tested.

    python scripts/mutate.py                  # all: about ten minutes
    python scripts/mutate.py --only wedge-steps interval-half
    python scripts/mutate.py --check          # do the texts still exist? (seconds)
    python scripts/mutate.py --list

The exit code is 1 if the tests detect less than a fraction ``--least`` (0.95) of the
changes, and 2 if a text or a test file no longer exists: then update the table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[1]
#: Folders needed by the tests.
_COPIED = ("src", "tests", "scripts", "benchmarks", "docs", ".ci")
#: Seconds after which a change counts as detected, because the tests hang.
_LIMIT = 600
#: Omits the plugins for napari and Qt, which take seconds to load.
_CONFIG = """[pytest]
addopts = --import-mode=importlib
markers =
    gui
    gpu
    slow
"""


class StaleError(Exception):
    """The table no longer matches the tree."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the changes, and print which were detected."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[])
    parser.add_argument(
        "--check", action="store_true", help="only check that the texts exist"
    )
    parser.add_argument("--list", action="store_true", help="list names and reasons")
    parser.add_argument(
        "--least", type=float, default=0.95, help="required fraction of killed changes"
    )
    parser.add_argument(
        "--without-baseline",
        action="store_true",
        help="do not run the tests on the unchanged tree first",
    )
    given = parser.parse_args(words)
    if given.list:
        for mutation in MUTATIONS:
            print(f"{mutation.name:<28}{mutation.why}")
        return 0
    try:
        chosen = choose(given.only)
        places = {mutation.name: find(mutation) for mutation in chosen}
    except StaleError as error:
        print(error, file=sys.stderr)
        return 2
    if given.check:
        print(f"{len(chosen)} texts are in the tree, each once.")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copy = copy_tree(Path(folder))
        if not given.without_baseline:
            tests = sorted({name for mutation in chosen for name in mutation.tests})
            failed = run_tests(copy, tests)
            if failed:
                print(f"The unchanged tree fails: {failed}", file=sys.stderr)
                return 2
        survivors = []
        for mutation in chosen:
            said = try_one(mutation, copy, places[mutation.name])
            print(f"{mutation.name:<28}{said or 'SURVIVED':<52}", flush=True)
            if not said:
                survivors.append(mutation)
    share = 1 - len(survivors) / len(chosen)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed: {share:.0%}")
    for mutation in survivors:
        print(f"survived: {mutation.name}: {mutation.why}")
    return 0 if share >= given.least else 1


def choose(names: Sequence[str]) -> list[Mutation]:
    """Return the changes with these names; all changes if there are no names."""
    known = {mutation.name: mutation for mutation in MUTATIONS}
    if len(known) != len(MUTATIONS):
        raise StaleError("Two changes have the same name.")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise StaleError(f"No such change: {', '.join(unknown)}; see --list.")
    return [known[name] for name in names] or list(MUTATIONS)


def find(mutation: Mutation) -> Path:
    """Return the file that contains the original text of a change exactly once.

    Raises
    ------
    StaleError
        If the text does not exist, or more than once, or a test file is missing.
    """
    gone = [name for name in mutation.tests if not (ROOT / name).is_file()]
    if gone:
        raise StaleError(f"{mutation.name}: there is no {', '.join(gone)}.")
    path = ROOT / "src" / "napari_geosr" / mutation.file
    if path.is_file():
        n = path.read_text(encoding="utf-8").count(mutation.old)
        if n == 1:
            return path.relative_to(ROOT)
        raise StaleError(f"{mutation.name}: {mutation.old!r} is {n} times in {path}.")
    elsewhere = [
        found
        for found in sorted((ROOT / "src").rglob("*.py"))
        if found.read_text(encoding="utf-8").count(mutation.old) == 1
    ]
    if len(elsewhere) != 1:
        raise StaleError(
            f"{mutation.name}: there is no {path}, and its text is in "
            f"{len(elsewhere)} files."
        )
    return elsewhere[0].relative_to(ROOT)


def copy_tree(folder: Path) -> Path:
    """Copy the tree without its history, but with compiled loops."""
    for name in _COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, folder / path.name)
    (folder / "mutate.ini").write_text(_CONFIG, encoding="utf-8")
    return folder


def try_one(mutation: Mutation, copy: Path, place: Path) -> str:
    """Make a change in the copy, run its tests, and revert it.

    Returns
    -------
    str
        The test that detected it; empty if none did.
    """
    path = copy / place
    text, times = path.read_text(encoding="utf-8"), path.stat()
    try:
        changed = text.replace(mutation.old, mutation.new)
        path.write_text(changed, encoding="utf-8")
        began = time.monotonic()
        failed = run_tests(copy, mutation.tests)
        return f"killed in {time.monotonic() - began:.0f} s: {failed}" if failed else ""
    finally:
        path.write_text(text, encoding="utf-8")
        # Also reset the time stamp, so that nothing is compiled again.
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def run_tests(copy: Path, tests: Sequence[str]) -> str:
    """Return the first test that fails in the copy; empty if all pass."""
    env = os.environ | {
        "PYTHONPATH": str(copy / "src"),
        # After two changes within a second, Python would use outdated bytecode.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "XDG_CACHE_HOME": str(copy / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-c", str(copy / "mutate.ini")]
    command += ["--rootdir", str(copy), "-x", "-q", "--no-header", "--tb=no"]
    command += ["-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    command += ["-m", "not slow and not gui", *tests]
    try:
        done = subprocess.run(
            command, cwd=copy, env=env, capture_output=True, text=True, timeout=_LIMIT
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_LIMIT} s"
    if done.returncode == 0:
        return ""
    if done.returncode not in (1, 2):  # 1: a test failed; 2: a module does not load
        raise RuntimeError(done.stdout + done.stderr)
    lines = [x for x in done.stdout.splitlines() if x.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0] if lines else done.stdout[-300:]


if __name__ == "__main__":
    sys.exit(main())
