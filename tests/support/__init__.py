"""Real servers for the tests: Apache Kafka, PostgreSQL and a schema registry, as children of the test process."""
