-- empty: remove the messages of a queue that nobody holds.

local MOST = 500

-- Returns how many of them are gone, and 1 if there are more.
local function empty(queue, steps)
  local count, more = 0, 0
  for _, step in ipairs(steps) do
    local key = list(queue, step)
    if is(key, 'list') then
      count = count + redis.call('LLEN', key)
      redis.call('UNLINK', key)
    end
  end
  for _, kind in ipairs({'delayed:', 'express:'}) do
    local key = own .. kind .. queue
    if is(key, 'zset') then
      for _, tag in ipairs(redis.call('ZRANGE', key, 0, MOST - 1)) do
        count = count + redis.call('HDEL', unacked, tag)
        redis.call('ZREM', index, tag)
        redis.call('ZREM', key, tag)
        redis.call('HDEL', own .. 'unknown:' .. queue, tag)
      end
      more = math.max(more, redis.call('EXISTS', key))
    end
  end
  return count, more
end
