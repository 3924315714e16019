-- When a step left the server to others.
ALTER TABLE steps ADD COLUMN throttled TEXT NOT NULL DEFAULT '[]';
