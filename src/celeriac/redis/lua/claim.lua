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
  return room >= 0 or #taken == 0
end

local function take(text, tag, rest)
  taken[#taken + 1] = tag
  taken[#taken + 1] = text
  entries[#entries + 1] = tag
  entries[#entries + 1] = '[' .. text .. rest
  scores[#scores + 1] = taken_at
  scores[#scores + 1] = tag
  ends[#ends + 1] = ends_at
  ends[#ends + 1] = tag
end

local function receipt(place, queue)
  last = last + 1
  return string.format('%s:%.0f:%s:%s', owner, last, place, queue)
end

-- Both return whether more may be taken.
local function from_express(queue, rest)
  local key = own .. 'express:' .. queue
  if not is(key, 'zset') then
    return true
  end
  local tags = redis.call('ZRANGE', key, 0, count - #taken / 2 - 1, 'WITHSCORES')
  for n = 1, #tags, 2 do
    local entry = redis.call('HGET', unacked, tags[n])
    if entry then
      local text = envelope(entry)
      if not fits(text) then
        return false
      end
      take(text, receipt('x' .. string.format('%.0f', tags[n + 1]), queue), rest)
    end
    expresses[#expresses + 1] = {key, tags[n]}
  end
  return #taken / 2 < count
end

local function from_list(queue, place, rest)
  local key = list(queue, place)
  if not is(key, 'list') then
    return true
  end
  local seen, most = 0, count
  -- What nobody knew is left for now: if a Celery worker waits at the list, it is served when the script ends,
  -- and it may know the task.
  if (offered[key] or 0) > 0 then
    most = redis.call('LLEN', key) - offered[key]
  end
  while #taken / 2 < count and seen < most do
    local first = redis.call('LINDEX', key, -1 - seen)
    if not first then
      break
    end
    -- A few large messages at a time, or many small ones: what is not taken is looked at in vain.
    local chunk = math.max(1, math.min(CHUNK, math.floor(LOOK / #first), count - #taken / 2, most - seen))
    local texts = redis.call('LRANGE', key, -seen - chunk, -1 - seen)
    most = #texts < chunk and seen + #texts or most
    for n = #texts, 1, -1 do
      if not fits(texts[n]) then
        lists[#lists + 1] = {key, seen}
        return false
      end
      seen = seen + 1
      take(texts[n], receipt(place, queue), rest)
    end
  end
  lists[#lists + 1] = {key, seen}
  return #taken / 2 < count
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
