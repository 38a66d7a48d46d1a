-- purge: remove the messages of a queue that nobody holds.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, queue, the steps
-- returns how many of them are gone, and 1 if there are more

local error = wrong()
if error then
  return error
end
return {empty(ARGV[3], {unpack(ARGV, 4)})}
