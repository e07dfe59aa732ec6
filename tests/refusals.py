"""Check error messages: one sentence says what is wrong, one what to do about it."""

from __future__ import annotations

import re

from click.testing import Result


def check_message(text: str) -> None:
    assert "\n" not in text
    assert "Traceback" not in text
    assert re.search(r"\. [A-Z].*\.$|^--[a-z-]+ must be .+, got .+\.$", text), text  # "must be" says what to do


def refused(result: Result, status: int, *parts: str) -> None:
    """Check that a command ended with this status, and with one message that contains these parts."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    message = result.stderr.strip().splitlines()[-1].removeprefix("Error: ")
    check_message(message)
    for part in parts:
        assert part in message
