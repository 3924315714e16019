-- How long a step had been predicted to take, and whether its time was up
-- before it was done: what later predictions are made from.
ALTER TABLE maint.steps ADD COLUMN predicted_ms int8;
ALTER TABLE maint.steps ADD COLUMN planned_bytes int8;
ALTER TABLE maint.steps ADD COLUMN cut_off boolean NOT NULL DEFAULT false;

-- The latest runs of a kind on a target, whoever asked for them.
CREATE INDEX runs_by_kind ON maint.runs (target, kind, started_at);
