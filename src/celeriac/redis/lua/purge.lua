-- purge: remove the messages of a queue that nobody holds.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, queue, the steps
-- returns how many of them are gone, and 1 if there are more

local error = wrong()
if error then
  return error
end
local MOST = 500
local queue, count, more = ARGV[3], 0, 0
for n = 4, #ARGV do
  local key = list(queue, ARGV[n])
  if is(key, 'list') then
    count = count + redis.call('LLEN', key)
    redis.call('UNLINK', key)
  end
end
for _, kind in ipairs({'delayed:', 'express:'}) do
  local key = own .. kind .. queue
  if is(key, 'zset') then
    for _, tag in ipairs(redis.call('ZRANGE', key, 0, MOST - 1)) do
      count = count + redis.call('HDEL', unacked, tag)
      redis.call('ZREM', index, tag)
      redis.call('ZREM', key, tag)
      redis.call('HDEL', own .. 'unknown:' .. queue, tag)
    end
    more = math.max(more, redis.call('EXISTS', key))
  end
end
return {count, more}
