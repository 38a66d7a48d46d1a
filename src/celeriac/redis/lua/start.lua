-- start: put on record that runs begin.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, the receipts
-- returns the receipts that hold no lease

local error = wrong()
if error then
  return error
end
unhindered()
local stale = {}
for n = 3, #ARGV do
  if redis.call('ZSCORE', leases, ARGV[n]) then
    redis.call('SADD', started, ARGV[n])
  else
    stale[#stale + 1] = ARGV[n]
  end
end
return stale
