"""The applications that are measured: one for each library, all with the same functions.

Each runs in the environment of its library, which is told in environment variables where broker and
results are: BENCH_BROKER, BENCH_BACKEND (empty: results are not kept), BENCH_WAITS (1 where callers wait
for results, for libraries that must be told). The functions that ``benchmarks.client`` calls:

- ``send(x, y)`` enqueues ``add`` and returns a handle, a text
- ``send_many(count, batch)`` enqueues so many, the fastest way there is, and returns their handles
- ``send_together(count, width)`` does so from coroutines, ``width`` at a time
- ``send_echo(number, text)`` enqueues ``echo`` and returns a handle
- ``send_ring(number)`` enqueues ``ring``
- ``send_later(seconds)`` enqueues ``add``, due in so many seconds
- ``result(handle, timeout)`` waits for the value
"""
