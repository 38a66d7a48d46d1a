"""What crosses the wire: bytes in, values out, in the formats that Celery 5.7 writes and reads.

Functions over values. Nothing here opens a socket or knows an adapter. Only ``signing`` reads a
clock, and files: certificates expire, and stand in a folder.
"""
