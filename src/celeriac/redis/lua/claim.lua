-- claim: take messages, record them, and lease them.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, owner, number of the last receipt, most messages, most bytes of bodies,
--        seconds of the lease, number of steps, the steps, then for each queue its name and its name as JSON
-- returns pairs: the receipt, the envelope

local error = wrong()
if error then
  return error
end

local owner, last = ARGV[3], tonumber(ARGV[4])
local count, room, lease = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local steps = tonumber(ARGV[8])
local CHUNK, LOOK = 64, 262144

local taken_at, ends_at = stamp(now), stamp(now + lease)
local taken, entries, scores, ends, lists, expresses = {}, {}, {}, {}, {}, {}
local number = 0

-- Bytes of the body, as far as they can be told without reading the message: kombu writes it first.
local function size(text)
  if string.sub(text, 1, 8) == '{"body":' then
    local opening = string.find(text, '"', 9, true)
    local closing = opening and string.find(text, '"', opening + 1, true)
    if closing then
      return math.floor((closing - opening - 1) / 4) * 3
        - (string.sub(text, closing - 2, closing - 1) == '==' and 2
          or string.sub(text, closing - 1, closing - 1) == '=' and 1 or 0)
    end
  end
  return #text
end

local function fits(text)
  room = room - size(text)
  return room >= 0 or number == 0
end

-- `rest` is what stands behind an envelope in an entry, `where` what does so behind the number of a receipt.
local function take(text, where, rest)
  local odd, even = 2 * number + 1, 2 * number + 2
  number = number + 1
  local tag = owner .. ':' .. string.format('%.0f', last + number) .. where
  taken[odd], taken[even] = tag, text
  entries[odd], entries[even] = tag, '[' .. text .. rest
  scores[odd], scores[even] = taken_at, tag
  ends[odd], ends[even] = ends_at, tag
end

-- Both return whether more may be taken.
local function from_express(queue, rest)
  local key = own .. 'express:' .. queue
  if not is(key, 'zset') then
    return true
  end
  local tags = redis.call('ZRANGE', key, 0, count - number - 1, 'WITHSCORES')
  for n = 1, #tags, 2 do
    local entry = redis.call('HGET', unacked, tags[n])
    if entry then
      local text = envelope(entry)
      if not fits(text) then
        return false
      end
      take(text, ':x' .. string.format('%.0f', tags[n + 1]) .. ':' .. queue, rest)
    end
    expresses[#expresses + 1] = {key, tags[n]}
  end
  return number < count
end

local function from_list(queue, place, rest)
  local key = list(queue, place)
  if not is(key, 'list') then
    return true
  end
  local seen, most, where = 0, count, ':' .. place .. ':' .. queue
  -- What nobody knew is left for now: if a Celery worker waits at the list, it is served when the script ends,
  -- and it may know the task.
  if (offered[key] or 0) > 0 then
    most = redis.call('LLEN', key) - offered[key]
  end
  while number < count and seen < most do
    local first = redis.call('LINDEX', key, -1 - seen)
    if not first then
      break
    end
    -- A few large messages at a time, or many small ones: what is not taken is looked at in vain.
    local chunk = math.max(1, math.min(CHUNK, math.floor(LOOK / #first), count - number, most - seen))
    -- Lua counts every byte of what it gets: a large one is not asked for twice.
    local texts = chunk == 1 and {first} or redis.call('LRANGE', key, -seen - chunk, -1 - seen)
    most = #texts < chunk and seen + #texts or most
    for n = #texts, 1, -1 do
      if not fits(texts[n]) then
        lists[#lists + 1] = {key, seen}
        return false
      end
      seen = seen + 1
      take(texts[n], where, rest)
    end
  end
  lists[#lists + 1] = {key, seen}
  return number < count
end

local function from_queue(queue, rest)
  if not from_express(queue, rest) then
    return false
  end
  for n = 1, steps do
    if not from_list(queue, ARGV[8 + n], rest) then
      return false
    end
  end
  return true
end

for n = 9 + steps, #ARGV, 2 do
  move(ARGV[n], taken_at)
end
for n = 9 + steps, #ARGV, 2 do
  if not from_queue(ARGV[n], ',"",' .. ARGV[n + 1] .. ']') then
    break
  end
end

-- From here on all is written: first what a full server may refuse.
for n = 1, #entries, 200 do
  local m = math.min(n + 199, #entries)
  redis.call('HSET', unacked, unpack(entries, n, m))
  redis.call('ZADD', index, unpack(scores, n, m))
  redis.call('ZADD', leases, unpack(ends, n, m))
end
for _, pair in ipairs(lists) do
  if pair[2] > 0 then
    redis.call('LTRIM', pair[1], 0, -pair[2] - 1)
  end
end
for _, pair in ipairs(expresses) do
  redis.call('ZREM', pair[1], pair[2])
  redis.call('HDEL', unacked, pair[2])
  redis.call('ZREM', index, pair[2])
end
return taken
