"""The floor: what reading and decoding alone cost in Python. It stays as it is: ratios to it are compared."""

import json
import sys
import time
from io import BytesIO

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from fastavro import schemaless_reader

from consumer.events import RAW_INGESTED

(bootstrap, topic), (partitions, events) = sys.argv[1:3], map(int, sys.argv[3:])
consumer, done = Consumer({"bootstrap.servers": bootstrap, "group.id": "floor"}), 0
consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
began, schema, header = time.perf_counter(), RAW_INGESTED.parsed, len(RAW_INGESTED.single_object_header)
while done < events:
    for message in consumer.consume(10_000, 0.02):
        schemaless_reader(BytesIO((message.value() or b"")[header:]), schema, None)
        done += 1
sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began, "cpu_s": time.process_time()}))
