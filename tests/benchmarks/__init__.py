"""How fast it is, on real Kafka and real PostgreSQL: ``python -m tests.benchmarks quick|full|long``; see README.md."""
