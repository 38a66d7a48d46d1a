-- send: publish messages, from a script that has looked at the keys.
--
-- A message is told by six arguments: kind, queue, place, tag, payload, score. Kinds: `list` (the payload is an
-- envelope), `delayed` and `express` (the payload is an entry, the score that in `unacked_index`, and for the
-- delayed a seventh argument is the due time, else empty).

local SEND = 7
local DAYS_30 = 2592000
local introduced = {}

-- Have the name of a queue known to whoever asks for sizes.
local function introduce(queue)
  if not introduced[queue] then
    introduced[queue] = true
    redis.call('SADD', own .. 'queues', queue)
    redis.call('EXPIRE', own .. 'queues', DAYS_30)
  end
end

local function can_send(at)
  local kind, queue = ARGV[at], ARGV[at + 1]
  if kind == 'list' then
    return is(list(queue, ARGV[at + 2]), 'list')
  end
  return is(own .. kind .. ':' .. queue, 'zset')
end

local function send(at)
  local kind, queue, place, tag, payload = unpack(ARGV, at, at + 4)
  if kind == 'list' then
    redis.call('LPUSH', list(queue, place), payload)
    introduce(queue)
    return
  end
  redis.call('HSET', unacked, tag, payload)
  redis.call('ZADD', index, ARGV[at + 5], tag)
  if kind == 'delayed' then
    redis.call('ZADD', own .. 'delayed:' .. queue, ARGV[at + 6], tag)
  else
    express(queue, tag, behind(place))
  end
  introduce(queue)
end
