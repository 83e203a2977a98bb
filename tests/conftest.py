"""Fixtures for every test; each one starts its server only when a test asks for it."""

# The summary first: the others import it, and pytest rewrites the assertions of modules that are not imported yet.
pytest_plugins = [
    "tests.support.summary",
    "tests.support.brokers",
    "tests.support.databases",
    "tests.support.registries",
]
