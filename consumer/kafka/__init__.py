"""The Kafka adapters: the source of events, the schema registry, the relay of announcements, the simulator's producer.

No other package imports confluent_kafka.
"""
