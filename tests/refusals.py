"""How a refusal reads: one sentence of what was found, one of what to do about it, and nothing else."""

from __future__ import annotations

import re

from click.testing import Result


def one_sentence(text: str) -> None:
    """What was found, then what to do about it."""
    assert "\n" not in text
    assert "Traceback" not in text
    assert re.search(r"\. [A-Z].*\.$", text), text


def refused(result: Result, status: int, *found: str) -> None:
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    message = result.stderr.strip().splitlines()[-1].removeprefix("Error: ")
    one_sentence(message)
    for part in found:
        assert part in message
