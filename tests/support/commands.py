"""Running the command in this process, as a shell would."""

import json
from typing import Any

from click.testing import CliRunner, Result

from consumer.cli import main


def invoke(*arguments: object, text: str | None = None, exit_code: int = 0) -> Result:
    """Run ``visit-consumer`` with these arguments; fails unless it exits with this code."""
    result = CliRunner().invoke(main, [str(each) for each in arguments], input=text, catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == exit_code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}"
    return result


def invoke_json(*arguments: object, text: str | None = None, exit_code: int = 0) -> Any:  # JSON
    """Run it with ``--output json`` and read what it prints."""
    return json.loads(invoke(*arguments, "--output", "json", text=text, exit_code=exit_code).stdout)
