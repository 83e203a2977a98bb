"""The interface of a Rubin pipeline task, without Rubin's stack: names, subtasks, metadata, timing.

A thin shim outside the core: it holds no rule of the domain, and the service does not need it. It offers what
``lsst.pipe.base.Task`` offers, under the same names, so that scripts written for that keep working; a test holds the
two side by side. ``getSchemaCatalogs`` and ``getAllSchemaCatalogs`` are of the task's older form: no catalogue is made.
"""

import contextlib
import logging
import platform
import resource
import sys
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

Scalar = str | float | bool | None
Value = Scalar | list[Scalar]

_METADATA_VERSION = 1
"""Of the timing items: since version 1 resident set sizes are bytes."""
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(slots=True)
class Metadata:
    """Named values, and named metadata of others; a name with dots reaches into the latter."""

    values: dict[str, Value] = field(default_factory=dict)
    nested: "dict[str, Metadata]" = field(default_factory=dict)

    def add(self, name: str, value: Scalar) -> None:
        """Append a value to those of one name."""
        self.values[name] = [*self.getArray(name), value] if name in self.values else [value]

    def getArray(self, name: str) -> list[Scalar]:  # noqa: N802  # the task's interface
        """Return all values of one name.

        Raises
        ------
        KeyError
            When there is none.
        """
        value = self._find(name)
        return list(value) if isinstance(value, list) else [value]

    def names(self) -> set[str]:
        """Return all names, with those of the nested metadata after theirs and a dot."""
        inner = {f"{name}.{item}" for name, metadata in self.nested.items() for item in metadata.names()}
        return self.values.keys() | self.nested.keys() | inner

    def __getitem__(self, name: str) -> Scalar:
        """Return the latest value of one name."""
        value = self._find(name)
        return value[-1] if isinstance(value, list) else value

    def __setitem__(self, name: str, value: Value) -> None:
        """Replace the values of one name."""
        self.values[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def _find(self, name: str) -> Value:
        first, _, rest = name.partition(".")
        if rest and first in self.nested:
            return self.nested[first]._find(rest)  # noqa: SLF001  # of its own class
        return self.values[name]


@dataclass(kw_only=True)
class Config:
    """The settings of a task; a subtask's are a `SubtaskField` under the subtask's name."""

    def validate(self) -> None:
        """Validate what a type cannot hold, and the settings of the subtasks.

        Raises
        ------
        ConfigurationError
            When a setting is wrong.
        """
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, SubtaskField):
                value.value.validate()


class SubtaskField:
    """A task class with its settings, as a field of the parent's settings.

    Parameters
    ----------
    doc
        What the subtask is for.
    target
        Its class.
    config
        Its settings; by default those of its class.
    """

    def __init__(self, doc: str, target: "type[Task]", config: Config | None = None) -> None:
        self.doc = doc
        self.target = target
        self.value = config if config is not None else target.ConfigClass()

    def retarget(self, target: "type[Task]", config: Config | None = None) -> None:
        """Put another task in the place."""
        self.target = target
        self.value = config if config is not None else target.ConfigClass()

    def apply(self, **arguments: Any) -> "Task":
        """Make the task."""
        return self.target(config=self.value, **arguments)


class Task:
    """Base of tasks: a name, settings, subtasks, metadata, a log.

    Parameters
    ----------
    config
        Settings; by default those of the parent for this subtask, or of the class.
    name
        Brief name; needed for a subtask, by default the class's for a top-level task.
    parentTask
        The task that this one is part of.
    log
        Parent of the task's log; ignored for a subtask.

    Raises
    ------
    RuntimeError
        When a task has no name.
    """

    ConfigClass: ClassVar[type[Config]] = Config
    _DefaultName: ClassVar[str | None] = None

    def __init__(
        self,
        config: Config | None = None,
        *,
        name: str | None = None,
        parentTask: "Task | None" = None,  # noqa: N803  # the task's interface
        log: logging.Logger | None = None,
    ) -> None:
        self.metadata = Metadata()
        self.config: Config
        self.log: logging.Logger
        self._parent = None if parentTask is None else weakref.ref(parentTask)
        if parentTask is not None:
            if name is None:
                raise RuntimeError("name is required for a subtask")
            self._name = name
            self._full_name = f"{parentTask.getFullName()}.{name}"
            self._tasks: dict[str, weakref.ReferenceType[Task]] = parentTask._tasks  # noqa: SLF001  # its own class
            self.config = config if config is not None else getattr(parentTask.config, name).value
            self.log = parentTask.log.getChild(name)
        else:
            name = name if name is not None else self._DefaultName
            if name is None:
                raise RuntimeError(f"name is required for a {type(self).__name__}: it has no _DefaultName")
            self._name = self._full_name = name
            self._tasks = {}
            self.config = config if config is not None else self.ConfigClass()
            self.log = log.getChild(name) if log is not None else logging.getLogger(_log_name(type(self), name))
        self.config.validate()
        self._tasks[self._full_name] = weakref.ref(self)

    def getName(self) -> str:  # noqa: N802  # the task's interface
        """Return the brief name."""
        return self._name

    def getFullName(self) -> str:  # noqa: N802  # the task's interface
        """Return the names of the parents and of this task, joined with dots."""
        return self._full_name

    def getTaskDict(self) -> "dict[str, weakref.ReferenceType[Task]]":  # noqa: N802  # the task's interface
        """Return weak references to all tasks of the tree by full name, in the order in which they were made."""
        return dict(self._tasks)

    def getFullMetadata(self) -> Metadata:  # noqa: N802  # the task's interface
        """Return the metadata of all tasks of the tree: ``top:sub:subsub.item``."""
        return Metadata(nested={name.replace(".", ":"): task.metadata for name, task in self._living()})

    def emptyMetadata(self) -> None:  # noqa: N802  # the task's interface
        """Forget the metadata of all tasks of the tree."""
        for _, task in self._living():
            task.metadata = Metadata()

    def makeSubtask(self, name: str, **keyArgs: Any) -> None:  # noqa: N802, N803  # the task's interface
        """Make the subtask that the settings name, and keep it as the attribute of that name.

        Raises
        ------
        KeyError
            When the settings have no such field.
        """
        found = getattr(self.config, name, None)
        if not isinstance(found, SubtaskField):
            raise KeyError(f"{self.getFullName()}'s config does not have field {name!r}")
        setattr(self, name, found.apply(name=name, parentTask=self, **keyArgs))

    @classmethod
    def makeField(cls, doc: str) -> SubtaskField:  # noqa: N802  # the task's interface
        """Make a field of a parent's settings that holds this task."""
        return SubtaskField(doc=doc, target=cls)

    @contextlib.contextmanager
    def timer(self, name: str, logLevel: int = logging.DEBUG) -> Iterator[Self]:  # noqa: N803  # the task's interface
        """Record in the metadata and in the log what the process had used at the start and at the end of a block."""
        self._record_usage(f"{name}Start", logLevel)
        try:
            yield self
        finally:
            self._record_usage(f"{name}End", logLevel)

    def getSchemaCatalogs(self) -> dict[str, Any]:  # noqa: N802  # the task's interface
        """Return the schemas of the catalogues that this task makes: none."""
        return {}

    def getAllSchemaCatalogs(self) -> dict[str, Any]:  # noqa: N802  # the task's interface
        """Return the schemas of the catalogues that this task and its subtasks make."""
        schemas: dict[str, Any] = {}
        for _, task in self._living():
            schemas |= task.getSchemaCatalogs()
        return schemas

    def _living(self) -> "Iterator[tuple[str, Task]]":
        for name, reference in self._tasks.items():
            task = reference()
            if task is not None:
                yield name, task

    def _record_usage(self, prefix: str, level: int) -> None:
        self.metadata.add(f"{prefix}Utc", datetime.now(UTC).isoformat())
        self.metadata["__version__"] = _METADATA_VERSION
        self.metadata["nodeName"] = platform.node()
        usage = _usage()
        for name, value in usage.items():
            self.metadata.add(prefix + name, value)
        timing = logging.getLogger(f"timer.{self.log.name}")
        if timing.isEnabledFor(level):
            timing.log(level, "; ".join(f"{prefix}{name}={value}" for name, value in usage.items()), stacklevel=4)


def _log_name(cls: type[Task], name: str) -> str:
    root = cls.__module__.split(".")[0]
    return name if name.startswith(f"{root}.") else f"{root}.{name}"


def _usage() -> Mapping[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "CpuTime": time.process_time(),
        "UserTime": used.ru_utime,
        "SystemTime": used.ru_stime,
        "MaxResidentSetSize": used.ru_maxrss * _RSS_UNIT_BYTES,
        "MinorPageFaults": used.ru_minflt,
        "MajorPageFaults": used.ru_majflt,
        "BlockInputs": used.ru_inblock,
        "BlockOutputs": used.ru_oublock,
        "VoluntaryContextSwitches": used.ru_nvcsw,
        "InvoluntaryContextSwitches": used.ru_nivcsw,
    }
