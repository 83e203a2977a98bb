"""The visit consumer: visits and their sky regions from ``raw-ingested`` events, exactly once.

Read the package as one pipe::

    Message -> RawIngested -> Exposure -> Group -> VisitDefinition -> VisitRecords -> transaction

Each arrow is one function and each stage one frozen type of `consumer.model`.
"""

__version__ = "0.1.0"
