-- release: have messages that are kept for later come at once, the soonest first.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, queue
-- returns how many of them there were, a bounded number

local error = wrong()
if error then
  return error
end
return move(ARGV[3], '+inf')
