-- works-with: 1
-- What each Butler sink has written into its registry. The position is kept by visit: neither updated_at nor any other
-- column of visit is in the order of commits. A release that does not know these tables leaves them alone.

CREATE TABLE butler_sink (
    name text PRIMARY KEY,
    repository text NOT NULL,
    owner text NOT NULL DEFAULT '',
    held_until timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE butler_sink IS 'Sinks by name: the repository of each and, where sessions are pooled, who runs it.';

CREATE TABLE butler_sink_visit (
    sink text NOT NULL,
    instrument text NOT NULL,
    visit bigint NOT NULL,
    revision integer,
    state text NOT NULL CHECK (state IN ('writing', 'written', 'kept', 'refused')),
    detail text NOT NULL DEFAULT '',
    written bytea,
    intended bytea,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, instrument, visit)
);
CREATE INDEX butler_sink_visit_noted ON butler_sink_visit (sink, state) WHERE state <> 'written';
COMMENT ON TABLE butler_sink_visit IS 'How far each sink is with each visit.';
COMMENT ON COLUMN butler_sink_visit.revision IS 'The revision of the visit that was dealt with last; null before the first.';
COMMENT ON COLUMN butler_sink_visit.state IS 'written; kept: regions that another client changed were kept; refused; writing: none yet.';
COMMENT ON COLUMN butler_sink_visit.written IS 'Digest of the regions that the sink left in the registry.';
COMMENT ON COLUMN butler_sink_visit.intended IS 'Digest of the regions that a transaction which may have been committed writes.';

-- What changed a short while ago: each look of a sink but the complete ones.
CREATE INDEX visit_by_update ON visit (updated_at);
