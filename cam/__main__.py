"""`python -m cam` is the command `cam`."""

from cam.cli.main import main

main(prog_name="cam")
