"""An ``ssh`` that runs the command on this computer, for tests without a server."""

from __future__ import annotations

import sys
from pathlib import Path

from programs import write_program

#: Reads options like ssh, and then runs the rest in a shell, like sshd.
_FAKE = """\
#!/bin/sh
while [ "$#" -gt 0 ]; do
    case $1 in
        -E) log=$2; shift 2 ;;
        -o) printf '%s\\n' "$2" >>"{folder}/options"; shift 2 ;;
        -T) shift ;;
        --) shift; break ;;
        *) echo "unexpected option $1" >&2; exit 255 ;;
    esac
done
printf '%s\\n' "$1" >"{folder}/host"
if [ -f "{folder}/refusal" ]; then
    cat "{folder}/refusal" >"$log"
    exit 255
fi
shift
cd "{home}" || exit 255
export HOME="{home}"
exec sh -c "$*"
"""


def install(folder: Path, home: Path) -> None:
    """Write the program into `folder`; the home folder of its computer is `home`."""
    write_program(folder / "ssh", _FAKE.format(folder=folder, home=home))
    # Files of a login shell, which may have changed PATH.
    (home / ".bash_profile").write_text(f'echo Welcome!\nPATH="{folder}:$PATH"\n')


def put_program(folder: Path, text: str = "") -> Path:
    """Write ``napari-geosr`` of the other computer: by default, ours."""
    ours = f'#!/bin/sh\nexec "{sys.executable}" -m napari_geosr "$@"\n'
    return write_program(folder / "napari-geosr", text or ours)
