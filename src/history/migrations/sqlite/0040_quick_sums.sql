-- Sums by day: the index holds days in their order and all that is summed up.
DROP INDEX runs_sums;
CREATE INDEX runs_by_day ON runs (substr(started_at, 1, 10), task, kind, status, started_at,
                                  duration_ms, rows, bytes_before, bytes_after);

-- Failures and waits are counted in the index alone; it mentions the waits
-- because its condition does.
DROP INDEX steps_troubled;
CREATE INDEX steps_troubled ON steps (started_at, status, action, object, lock_waits)
    WHERE status = 'failed' OR lock_waits <> '[]';
