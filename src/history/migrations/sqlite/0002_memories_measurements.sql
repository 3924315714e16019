-- What a kind asked to know again next time.
CREATE TABLE memories (
    target        TEXT NOT NULL,
    kind          TEXT NOT NULL,
    key           TEXT NOT NULL,
    value         TEXT NOT NULL CHECK (json_valid(value)),
    remembered_at TEXT NOT NULL CHECK (length(remembered_at) = 24),
    PRIMARY KEY (target, kind, key)
) WITHOUT ROWID;

-- Time series. The order of the key is the order in which they are read.
CREATE TABLE measurements (
    target      TEXT NOT NULL,
    metric      TEXT NOT NULL,
    object      TEXT NOT NULL,
    measured_at TEXT NOT NULL CHECK (length(measured_at) = 24),
    value       REAL NOT NULL,
    PRIMARY KEY (target, metric, object, measured_at)
) WITHOUT ROWID;
