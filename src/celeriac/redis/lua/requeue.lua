-- requeue: give deliveries back to where they were, uncounted; stale ones are skipped.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, the receipts, the last one taken first
-- returns nothing

local error = wrong()
if error then
  return error
end
unhindered()
for n = 3, #ARGV do
  if redis.call('ZSCORE', leases, ARGV[n]) and redis.call('HEXISTS', unacked, ARGV[n]) == 1
    and can_return(ARGV[n]) then
    give_back(ARGV[n], unchanged, true)
  end
end
