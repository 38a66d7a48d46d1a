-- defer: keep a delivery until a time has come.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, receipt, due time, its score in unacked_index, name of the task if nobody knows it
-- returns 1, or 0 if the receipt was stale

local error = wrong()
if error then
  return error
end
unhindered()
local receipt, due, task = ARGV[3], ARGV[4], ARGV[6]
local _, queue = parts(receipt)
local entry = redis.call('HGET', unacked, receipt)
if not entry or not redis.call('ZSCORE', leases, receipt) or not is(own .. 'delayed:' .. queue, 'zset') then
  return 0
end
local text, rest = envelope(entry)
text = aged(text, function(fate)
  if task ~= '' then
    fate[4] = fate[4] > 0 and fate[4] or now
    fate[5] = fate[5] + 1
  end
end)
redis.call('HSET', unacked, receipt, '[' .. text .. rest)
redis.call('ZADD', index, ARGV[5], receipt)
redis.call('ZADD', own .. 'delayed:' .. queue, due, receipt)
if task ~= '' then
  redis.call('HSET', own .. 'unknown:' .. queue, receipt, task)
end
redis.call('ZREM', leases, receipt)
redis.call('SREM', started, receipt)
return 1
