"""One name for one thing: what the layout of the package promises."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import consumer

PACKAGE = Path(consumer.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_no_public_class_name_stands_twice() -> None:
    names = Counter(
        node.name
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert len(names) > 100
    assert [name for name, number in names.items() if number > 1] == []


def test_the_root_holds_the_entry_points_the_model_errors_and_logs() -> None:
    assert {module.stem for module in PACKAGE.glob("*.py")} - {"__init__"} == {
        "__main__",
        "cli",
        "errors",
        "logs",
        "model",
    }


def test_no_module_of_the_service_is_too_long_to_be_read_at_once() -> None:
    lengths = {
        module.name: len(module.read_text(encoding="utf-8").splitlines())
        for module in (PACKAGE / "service").glob("*.py")
    }
    assert len(lengths) > 15
    assert {name: length for name, length in lengths.items() if length > 300} == {}


UNNATURAL = re.compile(
    r"\b(?:set aside|left alone|made anew|unwell|sightings?|fores(?:ee|een|ight)|verdicts?|whoever|somebody|anybody)\b",
    re.IGNORECASE,
)
"""Words for which the field has others: dead-lettered, unchanged, recreated, unavailable, exposure update, diff, ..."""


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_the_words_of_the_code_are_plain(module: Path) -> None:
    assert UNNATURAL.findall(module.read_text(encoding="utf-8")) == []


def test_sql_and_the_chart_speak_the_same_words() -> None:
    files = [*PACKAGE.rglob("sql/*.sql"), *(PACKAGE.parent / "deploy").rglob("*.py")]
    files += (PACKAGE.parent / "deploy" / "helm" / "visit-consumer" / "templates").iterdir()
    assert len(files) > 20
    assert {file.name: UNNATURAL.findall(file.read_text(encoding="utf-8")) for file in files if file.is_file()} == {
        file.name: [] for file in files if file.is_file()
    }


def test_functions_and_docstrings_begin_with_a_verb_of_programming() -> None:
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert not re.match(r"_?(?:give|tell|say)(?:_|$|s_)", node.name), f"{module.name}: {node.name}"
                assert not re.match(r"(?:Give|Tell|Say) ", ast.get_docstring(node) or ""), f"{module.name}: {node.name}"
