-- Process ids are used again, in containers at once: the process that ran it, told apart from all others.
ALTER TABLE maint.runs ADD COLUMN process text;
