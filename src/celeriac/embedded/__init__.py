"""The embedded file: one SQLite database that the SQLite broker and the SQLite result store share.

Connections, transactions, the schema and the doorbells; no statement about tasks.
"""
