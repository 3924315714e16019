-- Sums over a period read an index from front to back and not every record.
CREATE INDEX runs_sums ON maint.runs (started_at)
    INCLUDE (kind, status, duration_ms, rows, bytes_before, bytes_after);
CREATE INDEX runs_task_sums ON maint.runs (task, target, started_at)
    INCLUDE (status, duration_ms, rows, bytes_before, bytes_after);

-- The largest gains come first, so that those of a period are found early.
CREATE INDEX steps_gains ON maint.steps ((bytes_before - bytes_after), started_at)
    WHERE status = 'succeeded' AND bytes_before > bytes_after;

-- Failures and waits are few among many steps.
CREATE INDEX steps_troubled ON maint.steps (started_at)
    WHERE status = 'failed' OR lock_waits::text <> '[]';
CREATE INDEX runs_with_error ON maint.runs (started_at) WHERE error IS NOT NULL;
