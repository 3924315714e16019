-- Sums by day are made by task as well as by kind.
DROP INDEX maint.runs_sums;
CREATE INDEX runs_sums ON maint.runs (started_at)
    INCLUDE (task, kind, status, duration_ms, rows, bytes_before, bytes_after);
