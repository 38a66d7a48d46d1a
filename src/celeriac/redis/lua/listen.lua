-- listen: enter queues in the registers of fanout exchanges, for a time; strike off those whose time is over.
--
-- Nobody reads a queue that is struck off, and its messages go with it. One whose time is over already is struck
-- off at once. Celery's callers who know nothing of the exchange look for its queues where those of all exchanges
-- are bound.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, number of steps, the steps, then for each binding: exchange, queue, seconds, and what
--        kombu writes of it
-- returns nothing

local error = wrong()
if error then
  return error
end
unhindered()
local AT_MOST = 10
local DAYS_30 = 2592000
local steps = {unpack(ARGV, 4, 3 + ARGV[3])}

-- Where kombu keeps the bindings of an exchange.
local function tables(exchange)
  local found = {}
  for _, name in ipairs({'_kombu.binding.', '_kombu.binding_permanent.'}) do
    local key = prefix .. name .. exchange
    if is(key, 'set') then
      found[#found + 1] = key
    end
  end
  return found
end

local function strike_off(key, exchange, queue)
  local _, more = empty(queue, steps)
  if more > 0 then
    return
  end
  redis.call('ZREM', key, queue)
  redis.call('SREM', own .. 'queues', queue)
  local ending = separator .. queue
  for _, bindings in ipairs(tables(exchange)) do
    for _, member in ipairs(redis.call('SMEMBERS', bindings)) do
      if string.sub(member, -#ending) == ending then
        redis.call('SREM', bindings, member)
      end
    end
  end
end

for n = 4 + ARGV[3], #ARGV, 4 do
  local exchange, queue, seconds, member = unpack(ARGV, n, n + 3)
  local key = own .. 'fanout:' .. exchange
  if is(key, 'zset') then
    redis.call('ZADD', key, stamp(now + seconds), queue)
    redis.call('EXPIRE', key, DAYS_30)
    for _, bindings in ipairs(tables(exchange)) do
      redis.call('SADD', bindings, member)
    end
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', stamp(now), 'LIMIT', 0, AT_MOST)) do
      strike_off(key, exchange, name)
    end
  end
end
