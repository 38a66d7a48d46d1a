-- restore: put back a message that a Celery worker has lost, unless it has been touched meanwhile.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, tag, its score, its entry, the envelope that goes back, the lists it goes to
-- returns 1 if it was put back

local error = wrong()
if error then
  return error
end
unhindered()
local tag = ARGV[3]
if redis.call('HGET', unacked, tag) ~= ARGV[5] or redis.call('ZSCORE', index, tag) ~= ARGV[4]
  or redis.call('ZSCORE', leases, tag) then
  return 0
end
for n = 7, #ARGV do
  if not is(ARGV[n], 'list') then
    return 0
  end
end
for n = 7, #ARGV do
  redis.call('RPUSH', ARGV[n], ARGV[6])
end
redis.call('HDEL', unacked, tag)
redis.call('ZREM', index, tag)
return 1
