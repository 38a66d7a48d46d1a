-- Statements of the SQLite broker. A receipt is (seq, fence); it holds while the row has that fence and a lease.

-- publish: one new message, ready or delayed
INSERT INTO message (queue, priority, due, id, task, content_type, content_encoding, reply_to, headers, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- promote: delayed messages whose time has come, at most :count of them
UPDATE message SET due = NULL WHERE seq IN (
    SELECT seq FROM message WHERE due IS NOT NULL AND due <= :now ORDER BY due LIMIT :count
);

-- next_due: the earliest time at which a delayed message becomes ready
SELECT min(due) FROM message WHERE due IS NOT NULL;

-- pick: the next ready messages of a queue, best first
SELECT seq, length(body), claims, suspect, losses, parked, parkings, priority,
    id, task, content_type, content_encoding, reply_to, headers, body
FROM message WHERE queue = ? AND lease IS NULL AND due IS NULL ORDER BY priority DESC, seq LIMIT ?;

-- lease: a picked message becomes ours
UPDATE message SET lease = ?, fence = ?, claims = claims + 1, started = 0 WHERE seq = ?;

-- any_ready: whether a queue has something to claim
SELECT 1 FROM message WHERE queue = ? AND lease IS NULL AND due IS NULL LIMIT 1;

-- holds: whether a receipt holds its lease
SELECT 1 FROM message WHERE seq = ? AND fence = ? AND lease IS NOT NULL;

-- renew: a held lease lasts longer
UPDATE message SET lease = ? WHERE seq = ? AND fence = ? AND lease IS NOT NULL;

-- start: a run begins
UPDATE message SET started = 1 WHERE seq = ? AND fence = ? AND lease IS NOT NULL;

-- ack: done with
DELETE FROM message WHERE seq = ? AND fence = ? AND lease IS NOT NULL;

-- requeue: given back to where it was
UPDATE message SET lease = NULL, started = 0 WHERE seq = ? AND fence = ? AND lease IS NOT NULL RETURNING queue;

-- return: given back to the tail
UPDATE message SET lease = NULL, started = 0, seq = (SELECT max(seq) + 1 FROM message)
WHERE seq = ? AND fence = ? AND lease IS NOT NULL RETURNING queue;

-- loss: given back to the tail, the attempt counted
UPDATE message SET lease = NULL, started = 0, losses = losses + 1, seq = (SELECT max(seq) + 1 FROM message)
WHERE seq = ? AND fence = ? AND lease IS NOT NULL RETURNING queue;

-- bury: a copy for the dead-letter set (the message itself is deleted by ack)
INSERT INTO dead (seq, died, reason, queue, priority, losses, id, task, content_type, content_encoding, reply_to,
    headers, body)
SELECT 1 + max(coalesce((SELECT max(seq) FROM dead), 0),
               coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'dead_removed'), 0)),
    ?, ?, queue, priority, losses, id, task, content_type, content_encoding, reply_to, headers, body
FROM message WHERE seq = ? AND fence = ? AND lease IS NOT NULL;

-- defer: given back to the tail, for later
UPDATE message SET lease = NULL, started = 0, due = :due, seq = (SELECT max(seq) + 1 FROM message),
    parked = CASE WHEN :unknown THEN coalesce(parked, :now) ELSE parked END, parkings = parkings + :unknown
WHERE seq = :seq AND fence = :fence AND lease IS NOT NULL;

-- sweep: leases that ended; a start on record counts as a loss
UPDATE message SET lease = NULL, losses = losses + started, started = 0, suspect = 1
WHERE lease IS NOT NULL AND lease < ? RETURNING queue;

-- put: a document; a stored SUCCESS stays for its time
INSERT INTO result (key, state, expires, value) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET state = excluded.state, expires = excluded.expires, value = excluded.value
WHERE result.state <> 'SUCCESS' OR result.expires <= ?;

-- chord_open: the chord is known
INSERT OR IGNORE INTO chord (name) VALUES (?);

-- chord_member: one member reports in, once per position
INSERT OR IGNORE INTO chord_member (name, position, member) VALUES (?, ?, ?);

-- chord_state: who holds the claim, whether it is done, how many reported in
SELECT fence, done, (SELECT count(*) FROM chord_member WHERE name = :name) FROM chord WHERE name = :name;

-- chord_claim: the claim passes to this delivery
UPDATE chord SET fence = ? WHERE name = ?;

-- chord_members: what the members said, in order
SELECT member FROM chord_member WHERE name = ? ORDER BY position;

-- chord_finish: the body is on its way
UPDATE chord SET done = 1 WHERE name = ? AND fence = ? AND done = 0;

-- chord_clear: the members are not needed any more
DELETE FROM chord_member WHERE name = ?;

-- fence_lives: whether a delivery with this fence is held by anybody
SELECT 1 FROM message WHERE lease IS NOT NULL AND fence = ? LIMIT 1;

-- sizes: what every queue holds, by place
SELECT queue, sum(lease IS NULL AND due IS NULL), sum(due IS NOT NULL), sum(lease IS NOT NULL)
FROM message GROUP BY queue ORDER BY queue;

-- unknown: parked messages by task
SELECT queue, task, count(*) FROM message WHERE due IS NOT NULL AND parked IS NOT NULL GROUP BY queue, task;

-- purge: what nobody holds
DELETE FROM message WHERE queue = ? AND lease IS NULL;

-- delayed: what is kept for later in a queue, the soonest first
SELECT seq FROM message WHERE queue = ? AND due IS NOT NULL ORDER BY due;

-- release: a delayed message comes at once, behind all others
UPDATE message SET due = NULL, seq = (SELECT max(seq) + 1 FROM message) WHERE seq = ?;

-- dead_newest: the newest of these dead letters
SELECT seq, id, task, headers, body, content_type, content_encoding, priority, reply_to, queue, reason, died, losses
FROM dead
WHERE (:task IS NULL OR task = :task) AND (:queue IS NULL OR queue = :queue)
    AND (:ids IS NULL OR CAST(seq AS TEXT) IN (SELECT value FROM json_each(:ids)))
    AND (:task_ids IS NULL OR id IN (SELECT value FROM json_each(:task_ids)))
ORDER BY seq DESC LIMIT :limit;

-- dead_last: the highest number of a dead letter
SELECT max(seq) FROM dead;

-- dead_oldest: which of these dead letters are to be moved next
SELECT seq FROM dead
WHERE seq > :after AND seq <= :last AND (:task IS NULL OR task = :task) AND (:queue IS NULL OR queue = :queue)
    AND (:ids IS NULL OR CAST(seq AS TEXT) IN (SELECT value FROM json_each(:ids)))
    AND (:task_ids IS NULL OR id IN (SELECT value FROM json_each(:task_ids)))
ORDER BY seq LIMIT :count;

-- dead_remember: the highest number of a letter that was removed, so that no other gets it
INSERT OR REPLACE INTO meta (name, value)
SELECT 'dead_removed', max(coalesce((SELECT max(seq) FROM dead), 0),
                           coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'dead_removed'), 0));

-- revive: a new message with the old content
INSERT INTO message (queue, priority, id, task, content_type, content_encoding, reply_to, headers, body)
SELECT queue, priority, id, task, content_type, content_encoding, reply_to, headers, body
FROM dead WHERE seq = ? RETURNING queue;

-- dead_delete: a dead letter is no more
DELETE FROM dead WHERE seq = ?;

-- hang_bell: a consumer of this queue can be rung
INSERT OR REPLACE INTO consumer_bell (queue, address) VALUES (?, ?);

-- take_bell: nobody is there any more
DELETE FROM consumer_bell WHERE address = ?;

-- take_watches: nobody waits for documents there any more
DELETE FROM watch_bell WHERE address = ?;

-- bells: whom to ring for a queue
SELECT address FROM consumer_bell WHERE queue = ?;

-- any_watch: whether anybody waits for any document
SELECT 1 FROM watch_bell LIMIT 1;

-- watches: whom to ring for a document
SELECT address FROM watch_bell WHERE key = ?;

-- seen: a consumer is alive
INSERT OR REPLACE INTO meta (name, value) VALUES ('worker_seen', ?);

-- last_seen: when a consumer was last alive
SELECT value FROM meta WHERE name = 'worker_seen';
