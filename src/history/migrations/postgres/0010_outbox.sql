-- What happened and may be worth a message. Handled ones stay for a while:
-- they tell what was told.
CREATE TABLE maint.notices (
    id       uuid NOT NULL PRIMARY KEY,
    at       timestamptz NOT NULL,
    event    text NOT NULL,
    task     text NOT NULL,
    target   text NOT NULL,
    schedule text,
    run_id   uuid,
    text     text NOT NULL,
    handled  boolean NOT NULL DEFAULT false
);

CREATE INDEX notices_pending ON maint.notices (at) WHERE NOT handled;

-- Messages on their way, and those that went.
CREATE TABLE maint.letters (
    id              uuid NOT NULL PRIMARY KEY,
    created_at      timestamptz NOT NULL,
    channel         text NOT NULL,
    body            json NOT NULL,
    state           text NOT NULL CHECK (state IN ('waiting', 'sent', 'given_up')),
    attempts        bigint NOT NULL,
    next_attempt_at timestamptz NOT NULL,
    finished_at     timestamptz,
    last_error      text
);

CREATE INDEX letters_waiting ON maint.letters (next_attempt_at) WHERE state = 'waiting';

-- Tasks that have failed and not succeeded since.
CREATE TABLE maint.alerts (
    task         text NOT NULL,
    target       text NOT NULL,
    since        timestamptz NOT NULL,
    escalated_at timestamptz,
    PRIMARY KEY (task, target)
);
