-- listen: enter queues in the registers of fanout exchanges, for a time; strike off those whose time is over.
--
-- A member of a register is a queue with `p` or `l` before it. A passing one belongs to one worker: when it is struck
-- off nobody reads it any more, and its messages go with it. A lasting one loses no more than its binding. What is
-- entered for no time is struck off at once. Celery's callers who know nothing of the exchange look for its queues
-- where those of all exchanges are bound.
--
-- If nobody has entered anything for a while the server was away, and nobody could: then all are given time to do so.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, seconds of that while, seconds of grace, number of steps, the steps, then for each
--        binding: exchange, queue, kind, seconds, and what kombu writes of it
-- returns nothing

local error = wrong()
if error then
  return error
end
unhindered()
local AT_MOST = 10
local DAYS_30 = 2592000
local first = 6 + ARGV[5]
local steps = {unpack(ARGV, 6, first - 1)}

local last = tonumber(redis.call('GET', own .. 'listened') or 0)
redis.call('SET', own .. 'listened', stamp(now), 'EX', 86400)
if now - last > tonumber(ARGV[3]) and tonumber(ARGV[4]) > 0 then
  redis.call('SET', own .. 'listening', '', 'EX', ARGV[4])
end
local forbearing = redis.call('EXISTS', own .. 'listening') == 1

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

local function unbind(exchange, queue)
  local ending = separator .. queue
  for _, bindings in ipairs(tables(exchange)) do
    for _, member in ipairs(redis.call('SMEMBERS', bindings)) do
      if string.sub(member, -#ending) == ending then
        redis.call('SREM', bindings, member)
      end
    end
  end
end

local function strike_off(key, exchange, member)
  local queue, more = string.sub(member, 2), 0
  if string.sub(member, 1, 1) == 'p' then
    more = select(2, empty(queue, steps))
    redis.call('SREM', own .. 'queues', queue)
  end
  if more == 0 then
    redis.call('ZREM', key, member)
    unbind(exchange, queue)
  end
end

for n = first, #ARGV, 5 do
  local exchange, queue, kind, seconds, binding = unpack(ARGV, n, n + 4)
  local key = own .. 'fanout:' .. exchange
  if is(key, 'zset') then
    if tonumber(seconds) <= 0 then
      strike_off(key, exchange, kind .. queue)
    else
      redis.call('ZADD', key, stamp(now + seconds), kind .. queue)
      redis.call('EXPIRE', key, DAYS_30)
      for _, bindings in ipairs(tables(exchange)) do
        redis.call('SADD', bindings, binding)
      end
    end
    if not forbearing then
      for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', stamp(now), 'LIMIT', 0, AT_MOST)) do
        strike_off(key, exchange, member)
      end
    end
  end
end
