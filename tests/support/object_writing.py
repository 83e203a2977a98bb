"""Four writers that put the objects of exposures into a bucket, in random order and some of them twice."""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.sidecars import SideFile, expected_sensors, sidecars

N_WRITERS = 4


def night_files(exposures: Sequence[int], detectors: Sequence[str] | None, seeded: random.Random) -> list[SideFile]:
    """Return sidecars and files of expected sensors in random order, a tenth of them twice."""
    files = [each for number in exposures for each in [*sidecars(number, detectors), expected_sensors(number)]]
    files += seeded.sample(files, len(files) // 10)
    seeded.shuffle(files)
    return files


def put_all(new_client: Callable[[], Any], bucket: str, files: Sequence[SideFile]) -> None:
    """Put objects by four writers at once; each has a client of its own."""
    clients = threading.local()

    def put(file: SideFile) -> None:
        if not hasattr(clients, "s3"):
            clients.s3 = new_client()
        clients.s3.put_object(Bucket=bucket, Key=file.key, Body=file.content)

    with ThreadPoolExecutor(N_WRITERS) as pool:
        for _ in pool.map(put, files):
            pass


def ceph_record(bucket: str, file: SideFile) -> dict[str, Any]:
    """Return what Ceph says of an object that was put, as one record."""
    return {
        "eventVersion": "2.2",
        "eventSource": "ceph:s3",
        "awsRegion": "",
        "eventTime": "2026-09-02T03:00:00.000000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "n",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": file.key, "size": len(file.content), "eTag": "", "versionId": "", "sequencer": "1"},
        },
    }
