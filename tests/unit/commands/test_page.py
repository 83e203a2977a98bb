"""Without its extra the page says what to install."""

import sys

import pytest

from tests.support.commands import invoke


def test_without_its_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in [name for name in sys.modules if name.startswith(("consumer.page", "consumer.commands.page"))]:
        monkeypatch.delitem(sys.modules, name)
    answer = invoke("page", "--dsn", "dbname=visits", exit_code=1).stderr
    assert "page needs fastapi: pip install '.[page]' at the top of a checkout" in answer


def test_an_address_that_is_none_is_named() -> None:
    answer = invoke("page", "--dsn", "dbname=visits", "--host", "256.0.0.1", exit_code=78).stderr
    assert "page.host, page.port: cannot listen" in answer
