-- works-with: 1
-- When the large tables are vacuumed. By PostgreSQL's own defaults that is once they have grown by a fifth: for a survey
-- of ten years every two years, and then for hours. So each is vacuumed after as many new rows as ten nights of LSSTCam
-- have, which takes seconds. Rows of visits are hardly ever changed: they are frozen in the first vacuum, and none has to
-- run against the wraparound of transaction ids. Changing these settings waits for no reader and no writer.

ALTER TABLE visit_detector_region SET (
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 2000000,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000000,
    autovacuum_freeze_min_age = 0
);
ALTER TABLE visit_htm7 SET (
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 600000,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 600000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 600000,
    autovacuum_freeze_min_age = 0
);
-- One row for each visit, and some changes of an exposure while its raws arrive.
ALTER TABLE exposure SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.01,
    autovacuum_analyze_scale_factor = 0.01
);
ALTER TABLE visit SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.01,
    autovacuum_analyze_scale_factor = 0.01
);
ALTER TABLE visit_obscore SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.01,
    autovacuum_analyze_scale_factor = 0.01
);
