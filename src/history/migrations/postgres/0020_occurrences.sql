-- Since when a schedule is known as it is defined now. What it would have
-- fired before is no concern of ours.
CREATE TABLE maint.schedules (
    name        text NOT NULL PRIMARY KEY,
    definition  text NOT NULL,
    known_since timestamptz NOT NULL
);

-- One row for each planned firing. The row is the claim: whoever inserts it,
-- or takes it over after the lease of a dead owner, carries it out.
CREATE TABLE maint.occurrences (
    schedule      text NOT NULL,
    scheduled_for timestamptz NOT NULL,
    status        text NOT NULL CHECK (status IN ('running', 'ran', 'caught_up', 'skipped', 'missed')),
    catch_up      boolean NOT NULL,
    claimed_by    text,
    lease_until   timestamptz,
    claims        bigint NOT NULL,
    recorded_at   timestamptz NOT NULL,
    finished_at   timestamptz,
    succeeded     boolean,
    reason        text,
    runs          json NOT NULL,
    PRIMARY KEY (schedule, scheduled_for)
);

CREATE INDEX occurrences_by_time ON maint.occurrences (scheduled_for);
CREATE INDEX occurrences_running ON maint.occurrences (lease_until) WHERE status = 'running';

CREATE TABLE maint.pauses (
    schedule  text NOT NULL PRIMARY KEY,
    since     timestamptz NOT NULL,
    until     timestamptz,
    paused_by text NOT NULL
);

-- Runs that somebody asked to stop.
CREATE TABLE maint.cancellations (
    run_id   uuid NOT NULL PRIMARY KEY,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL
);

-- For the retention of the history itself.
CREATE INDEX measurements_by_time ON maint.measurements (measured_at);
