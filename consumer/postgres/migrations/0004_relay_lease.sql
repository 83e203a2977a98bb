-- works-with: 1
-- Who relays announcements where a connection pooler is in between: a session's lock belongs to the pooler's session
-- there, and not to ours. One row, or none.

CREATE TABLE relay_lease (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    owner text NOT NULL,
    held_until timestamptz NOT NULL
);
COMMENT ON TABLE relay_lease IS 'Which process relays announcements, where sessions are pooled.';
