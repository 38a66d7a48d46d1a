-- later: messages that are kept until a time.

local MOVED = 500

-- What was kept for a time until then goes to the tail of its list. Returns how many messages did.
local function move(queue, latest)
  local delayed = own .. 'delayed:' .. queue
  if not is(delayed, 'zset') then
    return 0
  end
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', latest, 'LIMIT', 0, MOVED)
  for _, tag in ipairs(due) do
    local entry, place = redis.call('HGET', unacked, tag), parts(tag)
    if entry and can_return(tag) then
      if string.sub(place, 1, 1) == 'x' then
        express(queue, tag, behind(place))
      else
        redis.call('LPUSH', list(queue, place), (envelope(entry)))
        redis.call('HDEL', unacked, tag)
        redis.call('ZREM', index, tag)
      end
    end
    redis.call('ZREM', delayed, tag)
    redis.call('HDEL', own .. 'unknown:' .. queue, tag)
  end
  return #due
end
