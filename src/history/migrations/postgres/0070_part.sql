-- What limited a run to a part of what its task looks at, as it was asked for.
ALTER TABLE maint.runs ADD COLUMN part text;
CREATE INDEX runs_of_parts ON maint.runs (task, target, started_at) WHERE part IS NOT NULL;
