-- later: messages that are kept until a time.

local MOVED = 500

-- By list, how many messages of tasks that nobody knew have come to its tail.
local offered = {}

-- What was kept for a time until then goes to the tail of its list. Returns how many messages did.
local function move(queue, latest)
  local delayed = own .. 'delayed:' .. queue
  if not is(delayed, 'zset') then
    return 0
  end
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', latest, 'LIMIT', 0, MOVED)
  for _, tag in ipairs(due) do
    local entry, place = redis.call('HGET', unacked, tag), parts(tag)
    local unknown = redis.call('HDEL', own .. 'unknown:' .. queue, tag)
    if entry and can_return(tag) then
      if string.sub(place, 1, 1) == 'x' then
        express(queue, tag, behind(place))
      else
        local key = list(queue, place)
        redis.call('LPUSH', key, (envelope(entry)))
        redis.call('HDEL', unacked, tag)
        redis.call('ZREM', index, tag)
        offered[key] = (offered[key] or 0) + unknown
      end
    end
    redis.call('ZREM', delayed, tag)
  end
  return #due
end
