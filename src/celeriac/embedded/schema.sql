-- Schema 1 of the embedded file.
-- Wall times are seconds since 1970; leases are seconds of the machine's monotonic clock, valid for one boot.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- A message is in one of three places: ready (no due, no lease), delayed (due), leased (lease).
CREATE TABLE message (
    seq INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due REAL,                            -- wall time before which it is not ready
    lease REAL,                          -- monotonic time at which its lease ends
    fence INTEGER NOT NULL DEFAULT 0,    -- of its last delivery
    claims INTEGER NOT NULL DEFAULT 0,
    suspect INTEGER NOT NULL DEFAULT 0,  -- a holder of it vanished once
    started INTEGER NOT NULL DEFAULT 0,  -- the start of its run is on record
    losses INTEGER NOT NULL DEFAULT 0,
    parked REAL,                         -- wall time at which it was first put back as unknown
    parkings INTEGER NOT NULL DEFAULT 0,
    id TEXT NOT NULL,
    task TEXT NOT NULL,
    content_type TEXT NOT NULL,
    content_encoding TEXT NOT NULL,
    reply_to TEXT,
    headers BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX message_ready ON message (queue, priority DESC, seq) WHERE lease IS NULL AND due IS NULL;
CREATE INDEX message_delayed ON message (due) WHERE due IS NOT NULL;
CREATE INDEX message_leased ON message (lease) WHERE lease IS NOT NULL;

CREATE TABLE dead (
    seq INTEGER PRIMARY KEY,
    died REAL NOT NULL,
    reason TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    id TEXT NOT NULL,
    task TEXT NOT NULL,
    content_type TEXT NOT NULL,
    content_encoding TEXT NOT NULL,
    reply_to TEXT,
    headers BLOB NOT NULL,
    body BLOB NOT NULL
);

CREATE TABLE result (key TEXT PRIMARY KEY, state TEXT NOT NULL, expires REAL, value BLOB NOT NULL);
CREATE INDEX result_expires ON result (expires) WHERE expires IS NOT NULL;

-- A chord: the members that reported in, and who holds the claim to its body.
CREATE TABLE chord (
    name TEXT PRIMARY KEY,
    fence INTEGER NOT NULL DEFAULT 0,    -- of the delivery that holds the claim
    done INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE chord_member (
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    member BLOB NOT NULL,
    PRIMARY KEY (name, position)
);

-- Who is rung when a queue gets a message, and when a document is stored.
CREATE TABLE consumer_bell (queue TEXT NOT NULL, address TEXT NOT NULL, PRIMARY KEY (queue, address)) WITHOUT ROWID;
CREATE TABLE watch_bell (
    key TEXT NOT NULL,
    address TEXT NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (key, address)
) WITHOUT ROWID;
