"""Faults that others do not test: see ``conftest.py`` for how a case is told and judged."""
