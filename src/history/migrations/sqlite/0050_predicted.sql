-- How long a step had been predicted to take, and whether its time was up
-- before it was done: what later predictions are made from.
ALTER TABLE steps ADD COLUMN predicted_ms INTEGER;
ALTER TABLE steps ADD COLUMN planned_bytes INTEGER;
ALTER TABLE steps ADD COLUMN cut_off INTEGER NOT NULL DEFAULT 0 CHECK (cut_off IN (0, 1));

-- The latest runs of a kind on a target, whoever asked for them.
CREATE INDEX runs_by_kind ON runs (target, kind, started_at);
