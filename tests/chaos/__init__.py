"""Chaos: everything that may go wrong, at random and at once; the tables are then held to a pure replay of the log."""
