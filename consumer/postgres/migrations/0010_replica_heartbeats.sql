-- works-with: 1
-- One row for each running replica, which it writes every half second: `visit-consumer status` reads it. Nothing else
-- depends on it. A replica that ends removes its row; the row of one that died is removed by the others.

CREATE TABLE replica (
    owner text PRIMARY KEY,
    consumer_group text NOT NULL,
    version text NOT NULL,
    state text NOT NULL,
    reasons text[] NOT NULL,
    partitions jsonb NOT NULL,
    backend integer NOT NULL,
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 20);
COMMENT ON TABLE replica IS 'Which replicas run: one row each, written every half second.';
COMMENT ON COLUMN replica.owner IS 'Host and process id, as in consumer_offset.owner.';
COMMENT ON COLUMN replica.reasons IS 'Why the replica is not ready; empty while it is.';
COMMENT ON COLUMN replica.partitions IS 'What it is assigned: topic, partition, state, position, lag and detail of each.';
COMMENT ON COLUMN replica.backend IS 'Process id of the session that wrote the row, on the server.';
