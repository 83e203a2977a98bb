"""Without its extra the sink says what to install, and nothing else misses it."""

import subprocess
import sys

import pytest

from tests.support.commands import invoke

_WITHOUT = """
import sys
for name in ("lsst.daf", "lsst.daf.butler", "psycopg2", "sqlalchemy"):
    sys.modules[name] = None
import pkgutil, importlib, consumer
for module in pkgutil.walk_packages(consumer.__path__, "consumer."):
    if not module.name.startswith(("consumer.__main__", "consumer.butler.", "consumer.commands.butler_sink")):
        importlib.import_module(module.name)
import consumer.butler.changes
"""


def test_without_its_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lsst.daf.butler", None)
    for name in [name for name in sys.modules if name.startswith(("consumer.butler", "consumer.commands.butler"))]:
        monkeypatch.delitem(sys.modules, name)
    answer = invoke("butler-sink", "--repo", "x", "--dry-run", exit_code=1).stderr
    assert "butler-sink needs lsst.daf.butler: pip install '.[butler]' at the top of a checkout" in answer


def test_no_other_module_imports_the_butler() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_repository_has_to_be_named() -> None:
    answer = invoke("butler-sink", "--dsn", "dbname=visits", "--dry-run", exit_code=78).stderr
    assert "butler.repository: names no repository, and none is given as --repo" in answer
