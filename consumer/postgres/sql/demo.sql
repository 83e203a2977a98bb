-- What the demo alone asks.

-- name: visit_row_versions
-- xmin is the transaction that wrote the row last: equal before and after means that nothing has touched it.
SELECT instrument, id, xmin::text FROM visit;
