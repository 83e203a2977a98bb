-- works-with: 1
-- A visit that is removed and defined again goes on with the next revision: readers of announcements ignore one that is
-- not above the last they saw. A release that does not know the table begins again at 1, as it always did.

CREATE TABLE retired_visit (
    instrument text NOT NULL,
    id bigint NOT NULL,
    revision integer NOT NULL,
    retired_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument, id)
);
COMMENT ON TABLE retired_visit IS 'The last revision of visits that were removed.';
