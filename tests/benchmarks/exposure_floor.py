"""The floor of exposure events: what reading and decoding them alone cost in Python. It stays as it is, as `floor`."""

import json
import sys
import time
from io import BytesIO

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from fastavro import schemaless_reader

from consumer.events import EXPOSURE_INGESTED

(bootstrap, topic), (partitions, events) = sys.argv[1:3], map(int, sys.argv[3:])
consumer, done = Consumer({"bootstrap.servers": bootstrap, "group.id": "floor"}), 0
consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
began, schema, header = time.perf_counter(), EXPOSURE_INGESTED.parsed, len(EXPOSURE_INGESTED.single_object_header)
while done < events:
    for message in consumer.consume(10_000, 0.02):
        schemaless_reader(BytesIO((message.value() or b"")[header:]), schema, None)
        done += 1
sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began, "cpu_s": time.process_time()}))
