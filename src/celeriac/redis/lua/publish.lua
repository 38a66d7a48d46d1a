-- publish: put messages where they belong, all or none.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, then the messages (see send)
-- returns nothing

local error = wrong()
if error then
  return error
end
for at = 3, #ARGV, SEND do
  if not can_send(at) then
    return redis.error_reply('WRONGTYPE a key of the queue ' .. ARGV[at + 1] .. ' is in use for something else')
  end
end
for at = 3, #ARGV, SEND do
  send(at)
end
