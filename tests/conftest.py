"""Fixtures for every test; each one starts its server only when a test asks for it."""

from hypothesis import HealthCheck, settings

# Another process may hold the processor: no example is too slow. What was loaded before, such as in CI, stays below it.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

# The summary first: the others import it, and pytest rewrites the assertions of modules that are not imported yet.
pytest_plugins = [
    "tests.support.summary",
    "tests.support.parallel",
    "tests.support.faults_table",
    "tests.support.brokers",
    "tests.support.databases",
    "tests.support.registries",
]
