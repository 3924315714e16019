-- What limited a run to a part of what its task looks at, as it was asked for.
ALTER TABLE runs ADD COLUMN part TEXT;
CREATE INDEX runs_of_parts ON runs (task, target, started_at) WHERE part IS NOT NULL;
