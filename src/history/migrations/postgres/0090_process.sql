-- Process ids are used again, in containers at once: the process that ran it, told apart from all others.
ALTER TABLE maint.runs ADD COLUMN process text;
-- Until when a run at work is believed to be, unless its process says again that it is.
ALTER TABLE maint.runs ADD COLUMN alive_until timestamptz;
-- Several schedules may have the same task at the same time.
ALTER TABLE maint.runs ADD COLUMN schedule text;
