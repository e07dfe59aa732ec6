"""`python -m cam` is the command `cam`."""

import sys
from pathlib import Path

# Python puts the working directory first, where a file torch.py would replace the library.
if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
    del sys.path[0]

from cam.cli.main import main

main(prog_name="cam")
