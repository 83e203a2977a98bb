"""YAML as people mean it: the safe loader without what turns ``12:34:56`` into a number and ``yes`` into true.

YAML 1.2's core schema: null, true and false, decimal integers, floats; anything else is text, dates and sexagesimal
angles included. Keys stand once and are text. No alias is followed: a few of them could stand for gigabytes.
"""

import re
from typing import Any

import yaml


class PlainYamlError(ValueError):
    """The text is no such YAML; says where.

    Attributes
    ----------
    at_end
        Whether the text stopped too early, as a file that is still being written does.
    """

    def __init__(self, problem: str, *, at_end: bool) -> None:
        super().__init__(problem)
        self.at_end = at_end


class _PlainLoader(yaml.SafeLoader):
    """The safe loader with the core schema's types."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as PyYAML has it

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases."""
        if self.check_event(yaml.AliasEvent):
            mark = self.get_mark()
            raise yaml.MarkedYAMLError(problem="aliases are not read", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys are unique texts."""
        mapping = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is no text", problem_mark=key_node.start_mark)
            if key_node.value in mapping:
                problem = f"key {key_node.value!r} stands twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            mapping[key_node.value] = self.construct_object(value_node, deep=deep)
        return mapping


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), _first)
_PlainLoader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
_PlainLoader.add_constructor("tag:yaml.org,2002:float", lambda _, node: float(node.value))


def parse_yaml(text: str) -> Any:  # what YAML can hold
    """Parse one document.

    Raises
    ------
    PlainYamlError
        The text is no YAML, or none that is read here; says where.
    """
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        at_end = mark is not None and mark.index >= len(text.rstrip())
        raise PlainYamlError(f"{where}{error.problem}", at_end=at_end) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PlainYamlError(f"it is no YAML ({error})", at_end=False) from error
    finally:
        loader.dispose()
