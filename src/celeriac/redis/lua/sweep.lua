-- sweep: take back what was not renewed in time; only what bears one of our leases.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, most at a time
-- returns how many were taken back

local error = wrong()
if error then
  return error
end
local ended = redis.call('ZRANGEBYSCORE', leases, '-inf', '(' .. stamp(now), 'LIMIT', 0, ARGV[3])
table.sort(ended, function(one, other)
  local _, _, first = parts(one)
  local _, _, second = parts(other)
  return (first or 0) > (second or 0)
end)
local taken = 0
for _, receipt in ipairs(ended) do
  if redis.call('HEXISTS', unacked, receipt) == 0 then
    drop(receipt)
  elseif can_return(receipt) then
    local begun = redis.call('SISMEMBER', started, receipt)
    give_back(receipt, function(fate)
      fate[2] = 1
      fate[3] = fate[3] + begun
    end, true)
    taken = taken + 1
  end
end
return taken
