-- Times are ISO 8601 text in UTC, always 24 characters with milliseconds
-- (2026-03-01T01:00:00.000Z): as text they sort by time, a person reading the
-- file with `sqlite3` understands them, and SQLite's date functions do too.
-- Durations are in milliseconds, sizes in bytes.

-- 'mntH': tells a history from any other SQLite file, also for `file(1)`.
PRAGMA application_id = 1835955272;

-- Ids are version 7 UUIDs, spelled as everywhere else, so rows are appended in
-- the order of their start and a prefix of an id is a range of the key.
CREATE TABLE runs (
    id            TEXT NOT NULL PRIMARY KEY,
    task          TEXT NOT NULL,
    kind          TEXT NOT NULL,
    target        TEXT NOT NULL,
    trigger       TEXT NOT NULL CHECK (trigger IN ('schedule', 'manual', 'catch_up')),
    status        TEXT NOT NULL CHECK (status IN ('running', 'succeeded', 'incomplete', 'partial',
                                                  'failed', 'skipped', 'cancelled', 'interrupted')),
    scheduled_for TEXT CHECK (length(scheduled_for) = 24),
    started_at    TEXT NOT NULL CHECK (length(started_at) = 24),
    finished_at   TEXT CHECK (length(finished_at) = 24),
    duration_ms   INTEGER NOT NULL,
    inspect_ms    INTEGER NOT NULL,
    rows          INTEGER NOT NULL,
    bytes_before  INTEGER NOT NULL,
    bytes_after   INTEGER NOT NULL,
    error         TEXT,
    host          TEXT NOT NULL,
    pid           INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX runs_by_start ON runs (started_at);
CREATE INDEX runs_by_task ON runs (task, target, started_at);
CREATE INDEX runs_by_target ON runs (target, started_at);
CREATE INDEX runs_by_occurrence ON runs (task, target, scheduled_for) WHERE scheduled_for IS NOT NULL;
-- A handful of rows at most: what every start looks through for dead processes.
CREATE INDEX runs_running ON runs (task, target) WHERE status = 'running';

-- WITHOUT ROWID keeps the steps of one run side by side under one key.
CREATE TABLE steps (
    run_id       TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq          INTEGER NOT NULL,
    object       TEXT NOT NULL,
    action       TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'skipped',
                                                 'deferred', 'cancelled')),
    reason       TEXT NOT NULL,
    statement    TEXT NOT NULL,
    rows         INTEGER,
    bytes_before INTEGER,
    bytes_after  INTEGER,
    started_at   TEXT CHECK (length(started_at) = 24),
    duration_ms  INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    error        TEXT,
    lock_waits   TEXT NOT NULL CHECK (json_valid(lock_waits)),
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

CREATE TABLE findings (
    run_id     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq        INTEGER NOT NULL,
    code       TEXT NOT NULL,
    severity   TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    object     TEXT NOT NULL,
    message    TEXT NOT NULL,
    suggestion TEXT,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

CREATE TABLE baselines (
    target     TEXT NOT NULL,
    object     TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    tuples     REAL NOT NULL,
    learned_at TEXT NOT NULL CHECK (length(learned_at) = 24),
    rebuilt    INTEGER NOT NULL CHECK (rebuilt IN (0, 1)),
    PRIMARY KEY (target, object)
) WITHOUT ROWID;
