"""A model of the fence, checked exhaustively by SPIN, whose traces are replayed on the real writer and PostgreSQL.

`fence.pml` is the model. `make model` checks all its states and replays 1,000 of its traces; `make test` a few dozen.
"""
