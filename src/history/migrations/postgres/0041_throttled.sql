-- When a step left the server to others.
ALTER TABLE maint.steps ADD COLUMN throttled json NOT NULL DEFAULT '[]';
