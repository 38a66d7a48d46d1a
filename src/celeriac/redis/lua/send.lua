-- send: publish messages, from a script that has looked at the keys.
--
-- A message is told by seven arguments: kind, queue, place, tag, payload, score, due time. Kinds: `list` (the
-- payload is an envelope), `delayed` and `express` (the payload is an entry, the score that in `unacked_index`; only
-- the delayed have a due time), and for an exchange of type fanout these three with `fanout-` in front: then the
-- payload is an envelope, the tag one without its place and queue, and in place of a queue come the exchange, the
-- channel on which Celery's workers listen, and queues that the sender knows, with separators between them.

local SEND = 7
local DAYS_30 = 2592000
local FANOUT = 'fanout-'
local introduced = {}

-- Have the name of a queue known to whoever asks for sizes.
local function introduce(queue)
  if not introduced[queue] then
    introduced[queue] = true
    redis.call('SADD', own .. 'queues', queue)
    redis.call('EXPIRE', own .. 'queues', DAYS_30)
  end
end

local function split(text)
  local words, first = {}, 1
  while true do
    local last, next = string.find(text, separator, first, true)
    words[#words + 1] = string.sub(text, first, last and last - 1)
    if not last then
      return words
    end
    first = next + 1
  end
end

-- The channel of a fanout exchange, and all queues that its messages go to: by name, whether it lasts.
local function audience(where)
  local words, queues = split(where), {}
  local bound = own .. 'fanout:' .. words[1]
  if is(bound, 'zset') then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', bound, stamp(now), '+inf')) do
      queues[string.sub(member, 2)] = false
    end
  end
  for n = 3, #words do
    queues[words[n]] = true
  end
  return words[2], queues
end

local function fits_into(kind, queue, place)
  if kind == 'list' then
    return is(list(queue, place), 'list')
  end
  return is(own .. kind .. ':' .. queue, 'zset')
end

local function without_fanout(kind)
  return string.sub(kind, 1, #FANOUT) == FANOUT and string.sub(kind, #FANOUT + 1)
end

local function can_send(at)
  local kind, queue, place = unpack(ARGV, at, at + 2)
  local each = without_fanout(kind)
  if not each then
    return fits_into(kind, queue, place)
  end
  local _, queues = audience(queue)
  for name in pairs(queues) do
    if not fits_into(each, name, place) then
      return false
    end
  end
  return true
end

local function put_into(kind, queue, place, tag, payload, score, due)
  if kind == 'list' then
    redis.call('LPUSH', list(queue, place), payload)
    return
  end
  redis.call('HSET', unacked, tag, payload)
  redis.call('ZADD', index, score, tag)
  if kind == 'delayed' then
    redis.call('ZADD', own .. 'delayed:' .. queue, due, tag)
  else
    express(queue, tag, behind(place))
  end
end

local function fan_out(kind, where, place, tag, text, score, due)
  local channel, queues = audience(where)
  for queue, lasts in pairs(queues) do
    local payload = kind == 'list' and text or '[' .. text .. ',"",' .. cjson.encode(queue) .. ']'
    put_into(kind, queue, place, tag .. ':' .. place .. ':' .. queue, payload, score, due)
    if lasts then
      introduce(queue)
    end
  end
  -- Last, and whether this user may or not: Celery's workers must not hear of what is then refused.
  redis.pcall('PUBLISH', channel, text)
end

local function send(at)
  local kind, queue, place, tag, payload, score, due = unpack(ARGV, at, at + 6)
  local each = without_fanout(kind)
  if each then
    fan_out(each, queue, place, tag, payload, score, due)
  else
    put_into(kind, queue, place, tag, payload, score, due)
    introduce(queue)
  end
end
