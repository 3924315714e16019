-- What a kind asked to know again next time.
CREATE TABLE maint.memories (
    target        text NOT NULL,
    kind          text NOT NULL,
    key           text NOT NULL,
    value         json NOT NULL,
    remembered_at timestamptz NOT NULL,
    PRIMARY KEY (target, kind, key)
);

-- Time series. The order of the key is the order in which they are read.
CREATE TABLE maint.measurements (
    target      text NOT NULL,
    metric      text NOT NULL,
    object      text NOT NULL,
    measured_at timestamptz NOT NULL,
    value       double precision NOT NULL,
    PRIMARY KEY (target, metric, object, measured_at)
);
