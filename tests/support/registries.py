"""Fixtures: a schema registry."""
