"""`python -m cam` is the command `cam`."""

from cam.commands import main

main(prog_name="cam")
