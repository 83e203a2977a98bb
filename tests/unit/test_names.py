"""One name for one thing: what the layout of the package promises."""

import ast
from collections import Counter
from pathlib import Path

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
