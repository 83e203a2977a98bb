"""The two sources of the settings, each read into the shape of the YAML file: the file, and environment variables."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import EnvSettingsSource, SettingsError
from pydantic_settings.sources.utils import parse_env_vars

from consumer.config.keys import all_keys, settings_error, suggestion, variable
from consumer.config.settings import ENV_DELIMITER, ENV_PREFIX, Settings
from consumer.errors import ConfigurationError

RESERVED_VARIABLES = frozenset({"VISIT_CONSUMER_CONFIG"})
"""Variables with our prefix that are no settings: the command's own ``--config``."""

_SERVICE_LINK = re.compile(
    r"[A-Z0-9_]*(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that stands twice: PyYAML would silently take the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys are unique."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is no text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Environment(EnvSettingsSource):
    """pydantic-settings' reading of variables, from the mapping that it is given."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(self._environ, self.case_sensitive, self.env_ignore_empty, self.env_parse_none_str)


def read_file(path: Path) -> dict[str, Any]:
    """Read the YAML file into a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}: cannot be read ({error}); name a readable YAML file with --config"
        ) from error
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  # a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise ConfigurationError(f"{path}{where}: {error.problem}; correct the YAML there") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is no YAML ({error})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: must hold keys such as kafka: and database:, not a {type(content).__name__}")
    return content


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read our variables into the shape of the file; refuse those that name no setting."""
    ours = {
        name: value
        for name, value in environ.items()
        if name.upper().startswith(ENV_PREFIX) and not _is_foreign(name.upper(), value)
    }
    unknown = []
    for name in ours:
        section, *rest = name.upper().removeprefix(ENV_PREFIX).lower().split(ENV_DELIMITER)
        if section not in Settings.model_fields:
            hint = suggestion(name.upper(), map(variable, all_keys(Settings)))
            unknown.append(f"{name}: no such setting{hint}; unset the variable")
        elif section == "instruments" and rest:
            unknown.append(
                f"{name}: give all instruments as one JSON object in {ENV_PREFIX}INSTRUMENTS, or in the file"
            )
    if unknown:
        raise settings_error(None, unknown)
    try:
        return _Environment(ours)()
    except (SettingsError, RecursionError) as error:
        raise settings_error(None, [_broken_variable(ours)]) from error


def _is_foreign(name: str, value: str) -> bool:
    """Whether a variable with our prefix is none of ours: the command's, or Kubernetes' for a Service of our name.

    Source: https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
    """
    if name in RESERVED_VARIABLES:
        return True
    rest = name.removeprefix(ENV_PREFIX)
    if ENV_DELIMITER in rest:
        return False
    is_address = (rest == "PORT" or rest.endswith("_PORT")) and _SERVICE_ADDRESS.match(value) is not None
    return is_address or _SERVICE_LINK.fullmatch(rest) is not None


def _broken_variable(ours: Mapping[str, str]) -> str:
    """Find the variable that pydantic-settings could not read: it names only the section."""
    for name, value in ours.items():
        try:
            _Environment({name: value})()
        except (SettingsError, RecursionError):
            return f'{name}: is no JSON; lists and mappings are written like ["a", "b"] and {{"key": 1}}'
    return f"{', '.join(sorted(ours))}: cannot be combined; give a section whole or key by key, not both"
