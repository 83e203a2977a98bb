"""A whole Ceph in a folder: a monitor, a store in memory, and the S3 gateway, as child processes of the tests.

Debian: ceph-mon, ceph-osd, radosgw and ceph-common, without their recommendations.
"""

import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from tests.support.children import Child, ServerError, free_port

_PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool", "ceph")
PACKAGES = "ceph-mon ceph-osd radosgw ceph-common"
ACCESS_KEY = "AK"
SECRET_KEY = "SK"  # noqa: S105 - of a gateway that lives as long as a test
_STORE_BYTES = 1 << 30
_CONFIG = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor},v1:127.0.0.1:{monitor_v1}]
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
osd pool default pg num = 4
mon max pg per osd = 1000
osd objectstore = memstore
memstore device bytes = {bytes}
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
ms mon client mode = crc
ms client mode = crc
ms cluster mode = crc
ms service mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
osd class load list = *
osd class default list = *
run dir = {folder}/run
log file = {folder}/$name.log
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
setuser match path =
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{gateway}
"""


class CephUnavailableError(Exception):
    """A program of Ceph is not installed."""


class CephGateway:
    """Runs between ``with`` and its end; takes some ten seconds to start.

    Parameters
    ----------
    folder
        Empty, of the test's own.

    Raises
    ------
    CephUnavailableError
        Names what is missing.
    """

    def __init__(self, folder: Path) -> None:
        missing = [each for each in _PROGRAMS if shutil.which(each) is None]
        if missing:
            raise CephUnavailableError(f"{', '.join(missing)} missing (Debian: {PACKAGES})")
        self._folder = folder
        self._port = free_port()
        self._config = folder / "ceph.conf"
        self._children: list[Child] = []

    @property
    def url(self) -> str:
        """Address of the gateway."""
        return f"http://127.0.0.1:{self._port}"

    def client(self, service: str) -> Any:  # boto3 has no types
        """Return a client of boto3: ``s3``, or ``sns`` for topics of notifications."""
        import boto3  # noqa: PLC0415 -- loading it takes a second
        from botocore.config import Config  # noqa: PLC0415 -- as above

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="default",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(request_checksum_calculation="when_required", s3={"addressing_style": "path"}),
        )

    def notify(self, bucket: str, address: str) -> None:
        """Let the gateway push what is created in a bucket to an address."""
        topic = self.client("sns").create_topic(Name=f"{bucket}-pushed", Attributes={"push-endpoint": address})
        self.client("s3").put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "TopicConfigurations": [
                    {"Id": "pushed", "TopicArn": topic["TopicArn"], "Events": ["s3:ObjectCreated:*"]}
                ]
            },
        )

    def __enter__(self) -> Self:
        """Start all of it."""
        fsid, monitor = str(uuid4()), free_port()
        for name in ("mon", "osd", "rgw", "run"):
            (self._folder / name).mkdir()
        self._config.write_text(
            _CONFIG.format(
                fsid=fsid,
                monitor=monitor,
                monitor_v1=free_port(),
                gateway=self._port,
                folder=self._folder,
                bytes=_STORE_BYTES,
            )
        )
        address = f"[v2:127.0.0.1:{monitor}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, str(self._folder / "monmap"))
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(self._folder / "monmap"))
        self._start("ceph-mon", "-i", "a")
        osd = str(uuid4())
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._start("ceph-osd", "-i", "0")
        self._run("ceph-authtool", "--create-keyring", f"{self._folder}/rgw/keyring", "--gen-key", "-n", "client.rgw.a")
        gateway = self._start("radosgw", "-n", "client.rgw.a", "--no-mon-config")
        gateway.wait_until(self._answers, what="radosgw", timeout_s=120)
        user = ["--uid=t", "--display-name=t", f"--access-key={ACCESS_KEY}", f"--secret={SECRET_KEY}"]
        self._run("radosgw-admin", "user", "create", *user)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of it; nothing of it is kept."""
        for child in reversed(self._children):
            child.signal(signal.SIGKILL)
            child.wait(10)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5):  # noqa: S310 - our own http:// address
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def _start(self, program: str, *arguments: str) -> Child:
        child = Child([program, "-c", str(self._config), "-f", *arguments], self._folder / f"{program}.out")
        self._children.append(child)
        return child

    def _run(self, program: str, *arguments: str) -> None:
        configured = [] if program in {"monmaptool", "ceph-authtool"} else ["-c", str(self._config)]
        command = ["timeout", "60", program, *configured, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | {"TERM": "dumb"})
        if done.returncode:
            raise ServerError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
