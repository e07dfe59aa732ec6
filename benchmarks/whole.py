"""Run Python with arguments, wait for the processes that it leaves behind, too, and exit with its status.

Whoever waits for this process learns the processor time of all of them.
"""

import ctypes
import os
import subprocess
import sys

_SUBREAPER = 36  # prctl(2): processes whose parent has ended become children of this one

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    status = subprocess.call([sys.executable, *sys.argv[1:]])  # noqa: S603
    try:
        while True:
            os.wait()
    except ChildProcessError:  # no process is left
        sys.exit(status)
