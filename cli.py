"""Launcher for a checkout: `python cli.py` is the command `cam`."""

from cam.cli.main import main

if __name__ == "__main__":
    main(prog_name="cam")
