"""What the Redis broker and the Redis result store share: addresses, connections, names of keys, scripts.

Nothing about tasks or results is known here; the driver (redis-py with hiredis) is known nowhere else.
"""
