-- Process ids are used again, in containers at once: the process that ran it, told apart from all others.
ALTER TABLE runs ADD COLUMN process TEXT;
-- Until when a run at work is believed to be, unless its process says again that it is.
ALTER TABLE runs ADD COLUMN alive_until TEXT CHECK (length(alive_until) = 24);
-- Several schedules may have the same task at the same time.
ALTER TABLE runs ADD COLUMN schedule TEXT;
