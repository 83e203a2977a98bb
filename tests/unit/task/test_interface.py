"""Our task beside the task that it stands in for."""

import logging
import weakref
from dataclasses import dataclass, field
from typing import Any

import pytest
from lsst.pex.config import Config as RealConfig
from lsst.pipe.base import Task as RealTask

from consumer.task.interface import Config, Metadata, SubtaskField, Task


class Leaf(Task):
    _DefaultName = "leaf"


@dataclass(kw_only=True)
class BranchConfig(Config):
    leaf: SubtaskField = field(default_factory=lambda: Leaf.makeField("the leaf"))


class Branch(Task):
    ConfigClass = BranchConfig
    _DefaultName = "branch"

    def __init__(self, config: Config | None = None, **arguments: Any) -> None:
        super().__init__(config, **arguments)
        self.makeSubtask("leaf")


@dataclass(kw_only=True)
class TreeConfig(Config):
    branch: SubtaskField = field(default_factory=lambda: Branch.makeField("the branch"))


class Tree(Task):
    ConfigClass = TreeConfig
    _DefaultName = "tree"

    def __init__(self, config: Config | None = None, **arguments: Any) -> None:
        super().__init__(config, **arguments)
        self.makeSubtask("branch")


class RealLeaf(RealTask):
    ConfigClass = RealConfig
    _DefaultName = "leaf"


class RealBranchConfig(RealConfig):
    leaf = RealLeaf.makeField("the leaf")


class RealBranch(RealTask):
    ConfigClass = RealBranchConfig
    _DefaultName = "branch"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.makeSubtask("leaf")


class RealTreeConfig(RealConfig):
    branch = RealBranch.makeField("the branch")


class RealTree(RealTask):
    ConfigClass = RealTreeConfig
    _DefaultName = "tree"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.makeSubtask("branch")


TREES = (Tree, RealTree)
FULL_NAMES = ["tree", "tree.branch", "tree.branch.leaf"]


@pytest.mark.parametrize("make", TREES)
def test_names(make: Any) -> None:
    tree = make()
    leaf = tree.branch.leaf
    assert [t.getName() for t in (tree, tree.branch, leaf)] == ["tree", "branch", "leaf"]
    assert [t.getFullName() for t in (tree, tree.branch, leaf)] == FULL_NAMES
    assert make(name="other").getName() == "other"


@pytest.mark.parametrize("make", TREES)
def test_task_dict_is_shared_by_the_tree_and_copied_to_the_caller(make: Any) -> None:
    tree = make()
    found = tree.branch.leaf.getTaskDict()
    assert list(found) == FULL_NAMES
    assert all(isinstance(reference, weakref.ReferenceType) for reference in found.values())
    assert [reference() for reference in found.values()] == [tree, tree.branch, tree.branch.leaf]
    found.clear()
    assert list(tree.getTaskDict()) == FULL_NAMES


@pytest.mark.parametrize("make", TREES)
def test_metadata_of_the_tree(make: Any) -> None:
    tree = make()
    tree.metadata["count"] = 3
    tree.branch.leaf.metadata.add("item", 1)
    tree.branch.leaf.metadata.add("item", 2)
    full = tree.getFullMetadata()
    assert full["tree.count"] == 3
    assert full["tree:branch:leaf.item"] == 2
    assert full.getArray("tree:branch:leaf.item") == [1, 2]
    assert "tree:branch:leaf.item" in full
    assert "tree:branch.item" not in full
    assert tree.branch.getFullMetadata().names() == full.names()
    tree.branch.emptyMetadata()
    assert full.names() == {
        "tree",
        "tree:branch",
        "tree:branch:leaf",
        "tree.count",
        "tree:branch:leaf.item",
    }
    assert tree.getFullMetadata().names() == {"tree", "tree:branch", "tree:branch:leaf"}
    with pytest.raises(KeyError):
        full["tree.none"]


def timed(tree: Any) -> Any:
    with tree.branch.timer("count"), tree.branch.leaf.timer("inner"):
        pass
    with tree.branch.timer("count"):
        pass
    return tree.getFullMetadata()


def test_timer_records_the_same_items() -> None:
    ours, real = timed(Tree()), timed(RealTree())
    assert ours.names() == real.names()
    assert "tree:branch.countStartCpuTime" in ours
    for name in sorted(n for n in real.names() if "." in n):
        assert [type(v) for v in ours.getArray(name)] == [type(v) for v in real.getArray(name)], name
    assert ours["tree:branch.countStartUtc"] < ours["tree:branch.countEndUtc"]
    one, other = (m["tree:branch.countEndMaxResidentSetSize"] for m in (ours, real))
    assert one == pytest.approx(other, rel=0.2)


@pytest.mark.parametrize("make", TREES)
def test_timer_ends_when_the_block_fails(make: Any) -> None:
    tree = make()
    with pytest.raises(ZeroDivisionError), tree.timer("broken"):
        raise ZeroDivisionError
    assert "brokenEndUtc" in tree.metadata


@pytest.mark.parametrize("make", TREES)
def test_timer_is_logged_beside_the_task(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    tree = make(log=logging.getLogger("night"))
    assert tree.branch.log.name == "night.tree.branch"
    with caplog.at_level(logging.DEBUG, logger="timer.night"), tree.branch.timer("count"):
        pass
    assert [r.name for r in caplog.records] == ["timer.night.tree.branch"] * 2
    assert "countStartCpuTime=" in caplog.messages[0]
    assert "countEndCpuTime=" in caplog.messages[1]
    if make is Tree:  # the real one names its own file
        assert [r.filename for r in caplog.records] == ["test_interface.py"] * 2


@pytest.mark.parametrize(("make", "leaf"), [(Tree, Leaf), (RealTree, RealLeaf)])
def test_names_are_required(make: Any, leaf: Any) -> None:
    with pytest.raises(RuntimeError, match="name is required for a subtask"):
        leaf(config=leaf.ConfigClass(), parentTask=make())
    base = Task if make is Tree else RealTask
    with pytest.raises(RuntimeError, match="name is required"):
        base()


@pytest.mark.parametrize("make", TREES)
def test_subtasks_come_from_the_settings(make: Any) -> None:
    tree = make()
    with pytest.raises(KeyError, match="tree's config does not have field 'root'"):
        tree.makeSubtask("root")
    config = make.ConfigClass()
    leaf = Leaf if make is Tree else RealLeaf
    config.branch.retarget(leaf)
    assert type(make(config=config).branch) is leaf


@pytest.mark.parametrize(("leaf", "config"), [(Leaf, TreeConfig), (RealLeaf, RealTreeConfig)])
def test_make_field_names_its_task(leaf: Any, config: Any) -> None:
    assert leaf.makeField("what for").doc == "what for"
    assert isinstance(config().branch.value, BranchConfig if leaf is Leaf else RealBranchConfig)


def test_every_public_name_of_the_real_task_is_there() -> None:
    assert {name for name in dir(RealTask) if not name.startswith("_")} <= set(dir(Tree))


def test_log_is_named_after_the_package() -> None:
    class Night(Leaf):
        __module__ = "consumer.task.define_visits"

    class RealNight(RealLeaf):
        __module__ = "consumer.task.define_visits"

    assert Night().log.name == RealNight().log.name == "consumer.leaf"
    assert Night(name="consumer.x").log.name == "consumer.x"


def test_schemas_are_collected_from_the_tree() -> None:
    class Cataloguing(Leaf):
        def getSchemaCatalogs(self) -> dict[str, Any]:  # noqa: N802  # the task's interface
            return {"sources": "schema"}

    config = TreeConfig()
    config.branch.retarget(Cataloguing)
    tree = Tree(config)
    assert tree.getSchemaCatalogs() == {}
    assert tree.getAllSchemaCatalogs() == {"sources": "schema"}


def test_settings_of_subtasks_are_validated() -> None:
    class Refusing(Config):
        def validate(self) -> None:
            raise ValueError("no")

    config = TreeConfig()
    config.branch.retarget(Leaf, Refusing())
    with pytest.raises(ValueError, match="no"):
        Tree(config)


def test_a_dead_subtask_leaves_the_tree() -> None:
    tree = Tree()
    del tree.branch  # type: ignore[attr-defined]  # made by makeSubtask
    assert tree.getFullMetadata().names() == {"tree"}


def test_metadata_without_dots() -> None:
    metadata = Metadata()
    metadata["a.b"] = 1
    assert metadata["a.b"] == 1
