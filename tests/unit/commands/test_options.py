"""What the commands print of data that may hold anything."""

import pytest

from consumer.commands.options import JSON, TABLE, print_rows

HOSTILE = "\x1b[31mred\u202e"


@pytest.mark.parametrize("value", [HOSTILE, [HOSTILE, "good"], ("good", [HOSTILE]), {"name": HOSTILE}])
@pytest.mark.parametrize("output", [TABLE, JSON])
def test_no_value_of_a_row_reaches_the_terminal_unescaped(
    capsys: pytest.CaptureFixture[str], value: object, output: str
) -> None:
    print_rows([{"name": value}], ["name"], output)
    printed = capsys.readouterr().out
    assert "red" in printed
    assert "\x1b" not in printed
    assert "\u202e" not in printed
