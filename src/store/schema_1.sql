-- Facts about the whole file, such as the parameters with which the sketches in it were made.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Every candidate file that was dealt with, as it was then. A file that has changed since is dealt with again.
CREATE TABLE files (
    source TEXT NOT NULL,
    path TEXT NOT NULL,               -- below the source's folder
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    error TEXT,                       -- why it is no checkpoint that can be used; NULL where it is one
    again INTEGER NOT NULL,           -- 1 where reading it again may help although it has not changed
    PRIMARY KEY (source, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    experiment TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (source, experiment, name)
) STRICT;

-- The runs that are analysed together. `run` is empty where whole experiments are.
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    experiment TEXT NOT NULL,
    run TEXT NOT NULL,
    signature TEXT NOT NULL,
    folder TEXT NOT NULL UNIQUE,      -- below a sink's folder
    UNIQUE (source, experiment, run, signature)
) STRICT;

-- What the numbers of a checkpoint stand for, shared by all checkpoints of a model.
CREATE TABLE layouts (
    id INTEGER PRIMARY KEY,
    layout TEXT NOT NULL UNIQUE       -- JSON
) STRICT;

CREATE TABLE checkpoints (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again, so that a late answer cannot hit the wrong one
    run_id INTEGER NOT NULL REFERENCES runs (id),
    group_id INTEGER NOT NULL REFERENCES groups (id),
    step INTEGER NOT NULL,
    epoch REAL,
    path TEXT NOT NULL,               -- below the source's folder
    modified_ns INTEGER NOT NULL,
    digest TEXT NOT NULL,
    signature TEXT NOT NULL,
    finite INTEGER NOT NULL,          -- 1 where every weight is a finite number
    norm REAL,
    update_ratio REAL,
    instability REAL,
    layout_id INTEGER NOT NULL REFERENCES layouts (id),
    sketch BLOB NOT NULL,             -- f32, little endian
    sketch_exact INTEGER NOT NULL,    -- 1 where it is the weights themselves
    coordinates BLOB NOT NULL,        -- single weights, f32, little endian
    statistics BLOB NOT NULL,
    model TEXT,                       -- digest of the model with which it was evaluated; NULL: not yet
    evaluation_error TEXT,            -- why it could not be evaluated
    crashes INTEGER NOT NULL DEFAULT 0, -- of the evaluator, while it was at this checkpoint
    loss REAL,                        -- on the probe batch; NULL where it is not finite
    predictions BLOB,                 -- f32, little endian
    UNIQUE (run_id, step)
) STRICT;
CREATE INDEX checkpoints_by_group ON checkpoints (group_id, step);
CREATE INDEX checkpoints_to_evaluate ON checkpoints (model, step);

-- How far each run's metrics file was read.
CREATE TABLE tails (
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    offset INTEGER NOT NULL,          -- in bytes, after a line's end
    PRIMARY KEY (source, path)
) STRICT, WITHOUT ROWID;

-- Training losses that the trainer logged.
CREATE TABLE losses (
    run_id INTEGER NOT NULL REFERENCES runs (id),
    step INTEGER NOT NULL,
    value REAL,                       -- NULL: not a number
    judged INTEGER NOT NULL DEFAULT 0, -- 1 once the detectors have seen it
    PRIMARY KEY (run_id, step)
) STRICT, WITHOUT ROWID;
CREATE INDEX losses_to_judge ON losses (run_id, step) WHERE judged = 0;

-- State of the detectors of one run, on checkpoints of one signature.
CREATE TABLE monitors (
    run_id INTEGER NOT NULL REFERENCES runs (id),
    signature TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (run_id, signature)
) STRICT, WITHOUT ROWID;

CREATE TABLE alerts (
    run_id INTEGER NOT NULL REFERENCES runs (id),
    signature TEXT NOT NULL,
    detector TEXT NOT NULL,
    episode INTEGER NOT NULL,
    alert TEXT NOT NULL,
    PRIMARY KEY (run_id, signature, detector, episode)
) STRICT, WITHOUT ROWID;

CREATE TABLE analyses (
    id INTEGER PRIMARY KEY,
    group_id INTEGER NOT NULL REFERENCES groups (id),
    name TEXT NOT NULL,               -- digest of all that went into it
    analysis TEXT,
    reason TEXT                       -- why there is none
) STRICT;
CREATE INDEX analyses_by_group ON analyses (group_id, id);

-- Groups whose report in a sink is not what it should be.
CREATE TABLE outbox (
    sink TEXT NOT NULL,
    group_id INTEGER NOT NULL REFERENCES groups (id),
    revision INTEGER NOT NULL DEFAULT 1,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    PRIMARY KEY (sink, group_id)
) STRICT, WITHOUT ROWID;
