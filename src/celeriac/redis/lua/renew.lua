-- renew: extend leases; none is made anew.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, the worker (nothing for who is none), seconds of the lease, the receipts
-- returns how many workers there are, and the receipts that hold no lease

local error = wrong()
if error then
  return error
end
unhindered()
local workers = own .. 'workers'
if ARGV[3] ~= '' then
  redis.call('ZADD', workers, stamp(now), ARGV[3])
  redis.call('ZREMRANGEBYSCORE', workers, '-inf', stamp(now - 120))
  redis.call('EXPIRE', workers, 3600)
end
local answer = {redis.call('ZCARD', workers)}
for n = 5, #ARGV do
  if redis.call('ZSCORE', leases, ARGV[n]) then
    redis.call('ZADD', leases, 'XX', stamp(now + tonumber(ARGV[4])), ARGV[n])
    redis.call('ZADD', index, 'XX', stamp(now), ARGV[n])
  else
    answer[#answer + 1] = ARGV[n]
  end
end
return answer
