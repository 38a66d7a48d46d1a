-- hear: put a message that a Celery caller has said on a channel into a queue, once.
--
-- Several workers may consume the queue, and each of them hears it.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, queue, the step of its list, tag of the envelope, seconds to remember it, envelope
-- returns 1 if it is there now by this

local error = wrong()
if error then
  return error
end
local key = list(ARGV[3], ARGV[4])
if not is(key, 'list') then
  return 0
end
if not redis.call('SET', own .. 'heard:' .. ARGV[3] .. ':' .. ARGV[5], '', 'NX', 'EX', ARGV[6]) then
  return 0
end
redis.call('LPUSH', key, ARGV[7])
return 1
