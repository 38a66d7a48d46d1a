-- revive: put a dead letter back to work, or only delete it.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, number of the letter, then nothing or the message (see send)
-- returns 1, or 0 if it has gone

local error = wrong()
if error then
  return error
end
local dead, number = own .. 'dead', ARGV[3]
if not redis.call('ZSCORE', dead, number) then
  return 0
end
if #ARGV > 3 then
  if not can_send(4) then
    return redis.error_reply('WRONGTYPE a key of the queue ' .. ARGV[5] .. ' is in use for something else')
  end
  send(4)
end
redis.call('ZREM', dead, number)
redis.call('DEL', dead .. ':' .. number)
return 1
