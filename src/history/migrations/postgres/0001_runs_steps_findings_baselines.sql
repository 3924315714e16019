-- The twin of the SQLite schema, in the words of PostgreSQL. The schema
-- `maint` is there already. Times are kept to the millisecond, durations are
-- in milliseconds, sizes in bytes. JSON is `json`, not `jsonb`: it comes back
-- as it was written.

CREATE TABLE maint.runs (
    id            uuid NOT NULL PRIMARY KEY,
    task          text NOT NULL,
    kind          text NOT NULL,
    target        text NOT NULL,
    trigger       text NOT NULL CHECK (trigger IN ('schedule', 'manual', 'catch_up')),
    status        text NOT NULL CHECK (status IN ('running', 'succeeded', 'incomplete', 'partial',
                                                  'failed', 'skipped', 'cancelled', 'interrupted')),
    scheduled_for timestamptz,
    started_at    timestamptz NOT NULL,
    finished_at   timestamptz,
    duration_ms   bigint NOT NULL,
    inspect_ms    bigint NOT NULL,
    rows          bigint NOT NULL,
    bytes_before  bigint NOT NULL,
    bytes_after   bigint NOT NULL,
    error         text,
    host          text NOT NULL,
    pid           bigint NOT NULL
);

CREATE INDEX runs_by_start ON maint.runs (started_at);
CREATE INDEX runs_by_task ON maint.runs (task, target, started_at);
CREATE INDEX runs_by_target ON maint.runs (target, started_at);
CREATE INDEX runs_by_occurrence ON maint.runs (task, target, scheduled_for) WHERE scheduled_for IS NOT NULL;
-- A handful of rows at most: what every start looks through for dead processes.
CREATE INDEX runs_running ON maint.runs (task, target) WHERE status = 'running';

CREATE TABLE maint.steps (
    run_id       uuid NOT NULL REFERENCES maint.runs (id) ON DELETE CASCADE,
    seq          bigint NOT NULL,
    object       text NOT NULL,
    action       text NOT NULL,
    status       text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'skipped',
                                                 'deferred', 'cancelled')),
    reason       text NOT NULL,
    statement    text NOT NULL,
    rows         bigint,
    bytes_before bigint,
    bytes_after  bigint,
    started_at   timestamptz,
    duration_ms  bigint NOT NULL,
    attempts     bigint NOT NULL,
    error        text,
    lock_waits   json NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE maint.findings (
    run_id     uuid NOT NULL REFERENCES maint.runs (id) ON DELETE CASCADE,
    seq        bigint NOT NULL,
    code       text NOT NULL,
    severity   text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    object     text NOT NULL,
    message    text NOT NULL,
    suggestion text,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE maint.baselines (
    target     text NOT NULL,
    object     text NOT NULL,
    bytes      bigint NOT NULL,
    tuples     double precision NOT NULL,
    learned_at timestamptz NOT NULL,
    rebuilt    boolean NOT NULL,
    PRIMARY KEY (target, object)
);
