-- What kept a step from being done, where it was left for another run.
ALTER TABLE maint.steps ADD COLUMN kept_by text;
