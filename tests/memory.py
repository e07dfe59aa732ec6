"""How much memory a command takes."""

from __future__ import annotations

import os
import subprocess
import sys

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "2"}

PEAK = """
import resource, sys
from cam.commands import main
try:
    main(sys.argv[1:], standalone_mode=True)
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def megabytes(*arguments: str) -> tuple[int, int, str]:
    """The peak of the memory, the exit status and the errors of a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=550
    )
    return int(done.stdout.split()[-1]), done.returncode, done.stderr
