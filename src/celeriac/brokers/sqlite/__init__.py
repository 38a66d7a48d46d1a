"""The embedded broker: queues in one SQLite file, with the semantics of a server and none to run."""
