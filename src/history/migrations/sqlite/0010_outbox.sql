-- What happened and may be worth a message. Handled ones stay for a while:
-- they tell what was told.
CREATE TABLE notices (
    id       TEXT NOT NULL PRIMARY KEY,
    at       TEXT NOT NULL CHECK (length(at) = 24),
    event    TEXT NOT NULL,
    task     TEXT NOT NULL,
    target   TEXT NOT NULL,
    schedule TEXT,
    run_id   TEXT,
    text     TEXT NOT NULL,
    handled  INTEGER NOT NULL DEFAULT 0 CHECK (handled IN (0, 1))
) WITHOUT ROWID;

CREATE INDEX notices_pending ON notices (at) WHERE handled = 0;

-- Messages on their way, and those that went.
CREATE TABLE letters (
    id              TEXT NOT NULL PRIMARY KEY,
    created_at      TEXT NOT NULL CHECK (length(created_at) = 24),
    channel         TEXT NOT NULL,
    body            TEXT NOT NULL CHECK (json_valid(body)),
    state           TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'given_up')),
    attempts        INTEGER NOT NULL,
    next_attempt_at TEXT NOT NULL CHECK (length(next_attempt_at) = 24),
    finished_at     TEXT CHECK (length(finished_at) = 24),
    last_error      TEXT
) WITHOUT ROWID;

CREATE INDEX letters_waiting ON letters (next_attempt_at) WHERE state = 'waiting';

-- Tasks that have failed and not succeeded since.
CREATE TABLE alerts (
    task         TEXT NOT NULL,
    target       TEXT NOT NULL,
    since        TEXT NOT NULL CHECK (length(since) = 24),
    escalated_at TEXT CHECK (length(escalated_at) = 24),
    PRIMARY KEY (task, target)
) WITHOUT ROWID;
