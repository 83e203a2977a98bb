"""Tests against real brokers, databases and registries."""
