"""What crosses the wire: bytes in, values out, in the formats that Celery 5.7 writes and reads.

Pure functions over values. Nothing here opens a socket, reads a clock or knows an adapter.
"""
