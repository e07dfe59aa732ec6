"""How much memory a command takes."""

from __future__ import annotations

import os
import subprocess
import sys

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "2"}

# Of what the system counts as the most, a process inherits that of the one that starts it, but not in VmHWM.
PEAK = """
import os, resource, sys
from pathlib import Path
from cam.cli.main import main
shown = os.fdopen(os.dup(1), "w")  # the command keeps standard output for itself
try:
    main(sys.argv[1:], standalone_mode=True)
finally:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    print((own or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] // 1024, file=shown)
"""


def megabytes(*arguments: str) -> tuple[int, int, str]:
    """The peak of the memory, the exit status and the errors of a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=550
    )
    return int(done.stdout.split()[-1]), done.returncode, done.stderr
