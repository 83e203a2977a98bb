"""A Kubernetes cluster of processes on this machine: etcd, API server, controllers, scheduler, kwok for its nodes."""

import json
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster.programs import etcd, kubernetes, kwok
from tests.deploy.tools import helm
from tests.support.children import Child, ServerError, free_port

_START_TIMEOUT_S = 120
_COMMAND_TIMEOUT_S = 180


class ClusterError(Exception):
    """A command failed; the message is what it printed."""


class Cluster:
    """What the checks ask of a running cluster.

    Parameters
    ----------
    kubeconfig
        Of a user who may do everything.
    programs
        Where kubectl is.
    """

    def __init__(self, kubeconfig: Path, programs: Path) -> None:
        self._kubeconfig = kubeconfig
        self._kubectl = programs / "kubectl"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it printed, or raise `ClusterError`."""
        return self._run([str(self._kubectl), *arguments], stdin)

    def helm(self, *arguments: str | Path) -> str:
        """Run Helm and return what it printed, or raise `ClusterError`."""
        return self._run([str(helm()), *map(str, arguments)])

    def get(self, kind: str, name: str, *, namespace: str) -> dict[str, Any]:
        """Return one object."""
        found = self.kubectl("get", kind, name, "--namespace", namespace, "--output", "json")
        one: dict[str, Any] = json.loads(found)
        return one

    def objects(self, kinds: str, *, namespace: str | None = None) -> list[dict[str, Any]]:
        """Return the objects of some kinds, with commas between them; without a namespace, of all."""
        where = ["--all-namespaces"] if namespace is None else ["--namespace", namespace]
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kinds, *where, "--output", "json"))["items"]
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, by the server."""
        text = yaml.safe_dump_all(list(objects))
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=text)

    def _run(self, command: list[str], stdin: str | None = None) -> str:
        try:
            done = subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                input=stdin,
                timeout=_COMMAND_TIMEOUT_S,
                env={
                    "KUBECONFIG": str(self._kubeconfig),
                    "HOME": str(self._kubeconfig.parent),
                    "PATH": "/usr/bin:/bin",
                },
            )
        except subprocess.CalledProcessError as error:
            raise ClusterError(f"{' '.join(command[1:4])}: {error.stdout}{error.stderr}") from error
        return done.stdout


@contextmanager
def cluster(folder: Path, *, nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[Cluster]:
    """Start a cluster.

    Parameters
    ----------
    folder
        For its data and logs; empty.
    nodes
        Its nodes by name, each with what its ``metadata`` and ``spec`` have besides: ``labels``, ``taints``.
    """
    programs = kubernetes()
    ports = {name: free_port() for name in ("etcd", "peers", "api")}
    token = secrets.token_hex(16)
    kubeconfig = _kubeconfig(folder, ports["api"], token)
    with ExitStack() as stack:

        def start(name: str, program: Path, *arguments: str) -> Child:
            child = Child([str(program), *arguments], folder / f"{name}.log")
            stack.callback(_stop, child)
            return child

        client, peers = (f"http://127.0.0.1:{ports[name]}" for name in ("etcd", "peers"))
        start(
            "etcd",
            etcd(),
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        )
        api = start("kube-apiserver", programs / "kube-apiserver", *_api_options(folder, client, ports["api"], token))
        made = Cluster(kubeconfig, programs)
        api.wait_until(lambda: _ready(made), what="kube-apiserver", timeout_s=_START_TIMEOUT_S)
        to_api = f"--kubeconfig={kubeconfig}"
        start(
            "kube-controller-manager",
            programs / "kube-controller-manager",
            to_api,
            f"--service-account-private-key-file={folder / 'sa.key'}",
            "--leader-elect=false",
            "--secure-port=0",
        )
        start("kube-scheduler", programs / "kube-scheduler", to_api, "--leader-elect=false", "--secure-port=0")
        start("kwok", kwok(), to_api, "--manage-all-nodes=true", "--node-lease-duration-seconds=40")
        made.apply(*(_node(name, extra) for name, extra in nodes.items()))
        api.wait_until(lambda: _nodes_ready(made, len(nodes)), what="the nodes", timeout_s=_START_TIMEOUT_S)
        yield made


def _api_options(folder: Path, etcd_url: str, port: int, token: str) -> Iterator[str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    (folder / "sa.pub").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n", encoding="utf-8")
    yield from (
        f"--etcd-servers={etcd_url}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        f"--service-account-key-file={folder / 'sa.pub'}",
        "--service-cluster-ip-range=10.0.0.0/16",
    )


def _kubeconfig(folder: Path, port: int, token: str) -> Path:
    path = folder / "kubeconfig"
    # The API server makes a certificate of its own, which only this machine ever sees.
    server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": server}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    path.chmod(0o600)
    return path


def _node(name: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    size = {"cpu": "32", "memory": "256Gi", "pods": "110"}
    labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels | dict(extra.get("labels", {})),
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": list(extra.get("taints", []))},
        "status": {"allocatable": size, "capacity": size},
    }


def _ready(one: Cluster) -> bool:
    try:
        return one.kubectl("get", "--raw", "/readyz") == "ok"
    except ClusterError:
        return False


def _nodes_ready(one: Cluster, number: int) -> bool:
    conditions = [each["status"].get("conditions", []) for each in one.objects("nodes")]
    return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in each) for each in conditions) == number


def _stop(child: Child) -> None:
    child.signal(signal.SIGTERM)
    try:
        child.wait(10)
    except ServerError:
        child.signal(signal.SIGKILL)
        child.wait(10)
