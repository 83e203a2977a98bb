"""Tables of the commands: what is empty says so, beside the output."""

import pytest

from consumer.commands.options import print_rows


def test_a_table_without_rows_is_said_to_be_empty(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], ["topic"], "table", empty="No partition is stopped.")
    assert capsys.readouterr() == ("", "No partition is stopped.\n")
    print_rows([], ["topic"], "json", empty="No partition is stopped.")
    assert capsys.readouterr() == ("[]\n", "")
