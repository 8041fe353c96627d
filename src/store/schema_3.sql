-- The runs of trackers, by the tracker's own id.
CREATE TABLE tracked (
    source TEXT NOT NULL,
    key TEXT NOT NULL,
    experiment TEXT NOT NULL,         -- as in runs
    name TEXT NOT NULL,               -- as in runs
    run TEXT NOT NULL,                -- JSON: as the tracker told it last
    seen TEXT,                        -- the token with which all of it was taken in
    PRIMARY KEY (source, key),
    UNIQUE (source, experiment, name)
) STRICT, WITHOUT ROWID;

-- What trackers were sent, so that it is not sent again.
CREATE TABLE posted (
    source TEXT NOT NULL,
    target TEXT NOT NULL,             -- a run's id at the tracker, or the folder of a group
    what TEXT NOT NULL,               -- a file, a tag, a series, ...
    mark TEXT NOT NULL,               -- digest of what was sent, or how far it went
    PRIMARY KEY (source, target, what)
) STRICT, WITHOUT ROWID;
