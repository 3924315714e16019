-- Since when a schedule is known as it is defined now. What it would have
-- fired before is no concern of ours.
CREATE TABLE schedules (
    name        TEXT NOT NULL PRIMARY KEY,
    definition  TEXT NOT NULL,
    known_since TEXT NOT NULL CHECK (length(known_since) = 24)
) WITHOUT ROWID;

-- One row for each planned firing. The row is the claim: whoever inserts it,
-- or takes it over after the lease of a dead owner, carries it out.
CREATE TABLE occurrences (
    schedule      TEXT NOT NULL,
    scheduled_for TEXT NOT NULL CHECK (length(scheduled_for) = 24),
    status        TEXT NOT NULL CHECK (status IN ('running', 'ran', 'caught_up', 'skipped', 'missed')),
    catch_up      INTEGER NOT NULL CHECK (catch_up IN (0, 1)),
    claimed_by    TEXT,
    lease_until   TEXT CHECK (length(lease_until) = 24),
    claims        INTEGER NOT NULL,
    recorded_at   TEXT NOT NULL CHECK (length(recorded_at) = 24),
    finished_at   TEXT CHECK (length(finished_at) = 24),
    succeeded     INTEGER CHECK (succeeded IN (0, 1)),
    reason        TEXT,
    runs          TEXT NOT NULL CHECK (json_valid(runs)),
    PRIMARY KEY (schedule, scheduled_for)
) WITHOUT ROWID;

CREATE INDEX occurrences_by_time ON occurrences (scheduled_for);
CREATE INDEX occurrences_running ON occurrences (lease_until) WHERE status = 'running';

CREATE TABLE pauses (
    schedule TEXT NOT NULL PRIMARY KEY,
    since    TEXT NOT NULL CHECK (length(since) = 24),
    until    TEXT CHECK (length(until) = 24),
    paused_by TEXT NOT NULL
) WITHOUT ROWID;

-- Runs that somebody asked to stop.
CREATE TABLE cancellations (
    run_id   TEXT NOT NULL PRIMARY KEY,
    asked_by TEXT NOT NULL,
    asked_at TEXT NOT NULL CHECK (length(asked_at) = 24)
) WITHOUT ROWID;

-- For the retention of the history itself.
CREATE INDEX measurements_by_time ON measurements (measured_at);
