-- entries: messages in `unacked`, and how they go back to where they came from.
--
-- An entry is `[<envelope>,"","<queue>"]`, the form that kombu restores. Its tag says where the message
-- belongs: `<owner>:<number>:<place>:<queue>`. A place is the step of a list, such as 3, or, for what goes
-- before all lists, x and its score in the index.
--
-- An envelope may end with what has befallen the message: `,"celeriac":[claims,suspect,losses,parked,
-- parkings,priority]}`. It is read and written as text, at the very end, and nothing else is looked at.

local prefix, separator, own = ARGV[1], ARGV[2], ARGV[1] .. 'celeriac:'

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000

local function stamp(seconds)
  return string.format('%.6f', seconds)
end

local function parts(tag)
  local number, place, queue = string.match(tag, '^[^:]*:([^:]*):([^:]*):(.*)$')
  return place, queue, tonumber(number)
end

local function list(queue, place)
  if place == '0' then
    return prefix .. queue
  end
  return prefix .. queue .. separator .. place
end

-- The envelope in an entry: all but its first and its last few characters.
local function envelope(entry)
  local back = string.reverse(string.sub(entry, -4096))
  local _, length = string.find(back, ',"",', 1, true)
  return string.sub(entry, 2, #entry - length), string.sub(entry, -length)
end

-- An envelope after one more delivery. `change` changes what has befallen it.
local function aged(text, change)
  local tail = string.sub(text, -200)
  local first, _, told = string.find(tail, ',%s*"celeriac":%s*%[([%d%s.,-]*)%]}$')
  local head
  if first then
    head = string.sub(text, 1, #text - (#tail - first + 1))
  elseif string.sub(text, -1) == '}' then
    head, told = string.sub(text, 1, -2), ''
  else
    return text -- It is no envelope; whoever claims it finds that out.
  end
  local fate = {}
  for word in string.gmatch(told, '[^,%s]+') do
    fate[#fate + 1] = tonumber(word) or 0
  end
  for n = #fate + 1, 6 do
    fate[n] = 0
  end
  fate[1] = fate[1] + 1
  change(fate)
  return string.format('%s,"celeriac":[%d,%d,%d,%.3f,%d,%d]}', head, unpack(fate, 1, 6))
end

-- Giving back changes nothing but the number of claims: what was suspect stays so.
local function unchanged()
end

-- A message that goes before all lists, kept as an entry under its tag.
local function express(queue, tag, score)
  redis.call('ZADD', own .. 'express:' .. queue, score, tag)
end

local function score(place)
  return string.sub(place, 2)
end

-- The score of a message that comes behind all others of its priority: a level has room for 2^44.
local function behind(place)
  local level = math.floor(tonumber(score(place)) / 17592186044416)
  return string.format('%.0f', level * 17592186044416 + redis.call('INCR', own .. 'serial'))
end

-- Whether a message can go back to its place.
local function can_return(tag)
  local place, queue = parts(tag)
  if not place then
    return false
  end
  if string.sub(place, 1, 1) == 'x' then
    return is(own .. 'express:' .. queue, 'zset')
  end
  return is(list(queue, place), 'list')
end

local function drop(tag)
  redis.call('HDEL', unacked, tag)
  redis.call('ZREM', index, tag)
  redis.call('ZREM', leases, tag)
  redis.call('SREM', started, tag)
end

-- Give a message back: `first` to the head of its place, else to its tail.
local function give_back(tag, change, first)
  local place, queue = parts(tag)
  local text, rest = envelope(redis.call('HGET', unacked, tag))
  text = aged(text, change)
  if string.sub(place, 1, 1) == 'x' then
    redis.call('HSET', unacked, tag, '[' .. text .. rest)
    express(queue, tag, first and score(place) or behind(place))
    redis.call('ZREM', leases, tag)
    redis.call('SREM', started, tag)
    return queue
  end
  redis.call(first and 'RPUSH' or 'LPUSH', list(queue, place), text)
  drop(tag)
  return queue
end
