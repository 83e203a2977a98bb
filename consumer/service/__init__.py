"""The running process: one loop that reads, one writer that commits, one relay that announces, and what they report.

`app` puts the parts together. `loop` turns; `partitions` knows the state of every partition; `batch_builder` gathers a
`batch`; `writer` commits it through `apply_batch` and `store_visits`; `outbox_relay` sends the announcements.
"""
