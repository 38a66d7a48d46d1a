-- sweep: take back what was not renewed in time; only what bears one of our leases.
--
-- If nobody has swept for a while, the server was away, and nobody could renew either. Then whoever has not
-- renewed since is given time to do so, before anything of his is taken.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, most at a time, seconds of a lease
-- returns how many were taken back

local error = wrong()
if error then
  return error
end
unhindered()
local lease = tonumber(ARGV[4])
local swept, away = own .. 'swept', own .. 'away'
local last = tonumber(redis.call('GET', swept) or now)
redis.call('SET', swept, stamp(now), 'EX', 86400)
if now - last > lease / 2 then
  redis.call('SET', away, stamp(now), 'PX', math.ceil(lease * 300))
end
local back = tonumber(redis.call('GET', away) or 0)

local ended = redis.call('ZRANGEBYSCORE', leases, '-inf', '(' .. stamp(now), 'LIMIT', 0, ARGV[3])
table.sort(ended, function(one, other)
  local _, _, first = parts(one)
  local _, _, second = parts(other)
  return (first or 0) > (second or 0)
end)
local taken = 0
for _, receipt in ipairs(ended) do
  local renewed = tonumber(redis.call('ZSCORE', index, receipt) or 0)
  if redis.call('HEXISTS', unacked, receipt) == 0 then
    drop(receipt)
  elseif renewed < back then
    -- Excused.
  elseif can_return(receipt) then
    local begun = redis.call('SISMEMBER', started, receipt)
    give_back(receipt, function(fate)
      fate[2] = 1
      fate[3] = fate[3] + begun
    end, true)
    local place, queue = parts(receipt)
    if redis.call('SISMEMBER', own .. 'queues', queue) == 0 and string.sub(place, 1, 1) ~= 'x' then
      -- A queue of replies, whose reader is probably gone.
      redis.call('EXPIRE', list(queue, place), 86400)
    end
    taken = taken + 1
  end
end
return taken
