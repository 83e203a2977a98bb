"""Deterministic simulation: several replicas, one log, one store, and a seed that decides what happens when.

The real loop, builder, writer and leases run one step at a time on simulated time. Between any two steps another
replica may go on, crash, lose its partitions without knowing it, or have the answer of its commit lost; a leader may be
elected without the last messages. A seed that fails is replayed by ``python -m tests.simulation --seed N``.

The store knows exposures that saw no sky, which define no visit: simulated is who reads and writes what, and when.
"""
