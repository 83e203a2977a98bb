"""The programs of a Kubernetes cluster, built once from their Go modules and kept in the cache.

Kubernetes' own module replaces its parts by folders of its repository; here they are the published modules of the same
version. The first build takes ten minutes and more.
"""

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.deploy.tools import locked, run

KUBERNETES: Final = "1.34.4"
ETCD: Final = "v3.6.13"
KWOK: Final = "v0.7.0"
_VERSION: Final = f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"
"""What Kubernetes' programs say of themselves; Helm looks whether a chart may be installed there."""
_BUILD_TIMEOUT_S: Final = 3600
_FETCH_TIMEOUT_S: Final = 600


def kubernetes() -> Path:
    """Return the folder with kube-apiserver, kube-controller-manager, kube-scheduler and kubectl.

    Raises
    ------
    ToolUnavailableError
        When Go is missing, the modules' proxy cannot be reached, or a build fails.
    """
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
    go_mod = _downloaded(f"k8s.io/kubernetes@v{KUBERNETES}")["GoMod"]
    parts = re.findall(r"^\s*(k8s\.io/\S+) => \./staging", Path(go_mod).read_text(encoding="utf-8"), re.MULTILINE)
    published = {part: f"v0.{KUBERNETES.removeprefix('1.')}" for part in parts}
    packages = [f"k8s.io/kubernetes/cmd/{name}" for name in names]
    return _built("kubernetes", {"k8s.io/kubernetes": f"v{KUBERNETES}"}, packages, published)


def etcd() -> Path:
    """Return etcd's server; raises as `kubernetes` does."""
    return _built("etcd", {"go.etcd.io/etcd/server/v3": ETCD}, ["go.etcd.io/etcd/server/v3"]) / "server"


def kwok() -> Path:
    """Return kwok's controller; raises as `kubernetes` does."""
    return _built("kwok", {"sigs.k8s.io/kwok": KWOK}, ["sigs.k8s.io/kwok/cmd/kwok"]) / "kwok"


def _downloaded(module: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:  # outside of any module, so that no go.mod is looked for
        answer = run(["go", "mod", "download", "-json", module], timeout_s=_FETCH_TIMEOUT_S, cwd=folder)
    found: dict[str, str] = json.loads(answer)
    return found


def _built(
    name: str, required: Mapping[str, str], packages: Sequence[str], replaced: Mapping[str, str] | None = None
) -> Path:
    """Build programs in a module of their own, unless the cache has them at these versions; return their folder."""
    lines = ["module cluster", "go 1.24.0", *(f"require {module} {version}" for module, version in required.items())]
    lines += [f"replace {part} => {part} {version}" for part, version in (replaced or {}).items()]
    version = "-".join(required.values())
    with locked(f"{name}-{version}") as cache:
        folder = cache / f"{name}-{version}"
        if not (folder / ".built").exists():
            folder.mkdir(exist_ok=True)
            environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath -mod=mod"}
            with tempfile.TemporaryDirectory() as module:
                Path(module, "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")
                build = ["go", "build", f"-ldflags=-s -w {_VERSION}", "-o", f"{folder}/", *packages]
                run(build, timeout_s=_BUILD_TIMEOUT_S, cwd=module, env=environment)
            (folder / ".built").touch()
    return folder
