"""Grouping rules, found by name: which exposures are one visit, and under which id and name.

Built in: ``one-to-one``, ``by-group-metadata``, ``one-to-one-and-by-counter``. Any installed distribution adds its own
through the entry point group ``visit_consumer.grouping_rules``: a name, and a callable that takes the keyword
``group_id`` and returns a `GroupingRule`. A built-in name cannot be taken over.
"""

from collections.abc import Callable
from importlib.metadata import entry_points

from consumer.errors import ConfigurationError
from consumer.grouping.by_counter import OneToOneAndByCounter
from consumer.grouping.by_group_metadata import ByGroupMetadata
from consumer.grouping.group_ids import group_id_names, visit_id_of
from consumer.grouping.one_to_one import OneToOne
from consumer.grouping.rule import Definitions, GroupingRule, Skip, on_sky

__all__ = [
    "ENTRY_POINT_GROUP",
    "ByGroupMetadata",
    "Definitions",
    "GroupingRule",
    "OneToOne",
    "OneToOneAndByCounter",
    "Skip",
    "get_rule",
    "group_id_names",
    "on_sky",
    "rule_names",
]

ENTRY_POINT_GROUP = "visit_consumer.grouping_rules"

_BUILT_IN: dict[str, Callable[[str], GroupingRule]] = {
    "one-to-one": lambda _group_id: OneToOne(),
    "by-group-metadata": lambda group_id: ByGroupMetadata(visit_id=visit_id_of(group_id)),
    "one-to-one-and-by-counter": lambda _group_id: OneToOneAndByCounter(),
}


def rule_names() -> tuple[str, ...]:
    """Return the names of all rules that can be had, built in or installed, sorted."""
    return tuple(sorted(_BUILT_IN.keys() | entry_points(group=ENTRY_POINT_GROUP).names))


def get_rule(name: str, *, group_id: str = "digits") -> GroupingRule:
    """Find a grouping rule.

    Parameters
    ----------
    name
        Name of the rule.
    group_id
        How a group's name becomes a visit id, for the rules that ask: ``digits`` or ``lsst``.

    Raises
    ------
    ConfigurationError
        When there is no rule of that name, when an installed one cannot be loaded, or when `group_id` is unknown.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name](group_id)
    found = entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not found:
        raise ConfigurationError(f"group_exposures: unknown rule {name!r}; known: {', '.join(rule_names())}")
    if len({point.value for point in found}) > 1:
        raise ConfigurationError(
            f"group_exposures: more than one installed distribution has a rule {name!r}: "
            + ", ".join(sorted(point.value for point in found))
        )
    point = next(iter(found))
    try:
        rule: GroupingRule = point.load()(group_id=group_id)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"group_exposures: the installed rule {name!r} ({point.value}) fails: {error}"
        ) from error
    return rule
