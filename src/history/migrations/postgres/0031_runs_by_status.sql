-- The list of runs by status, newest first, page by page.
CREATE INDEX runs_by_status ON maint.runs (status, started_at);
