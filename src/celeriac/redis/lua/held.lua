-- held: the keys of what is in hands.

local unacked, index, leases, started = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- Whether a key can be used as what it should be.
local function is(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or found == kind
end

local function wrong()
  local kinds = {[unacked] = 'hash', [index] = 'zset', [leases] = 'zset', [started] = 'set'}
  for key, kind in pairs(kinds) do
    if not is(key, kind) then
      return redis.error_reply('WRONGTYPE the key ' .. key .. ' is no ' .. kind .. '; remove or rename it')
    end
  end
end

-- A full server refuses the first write of a script if that needs room, and no later one. What keeps messages
-- safe, or makes room, is not to be refused: it begins with a write that needs none.
local function unhindered()
  redis.call('DEL', leases .. ':nothing')
end

-- Strike deliveries off: their messages are gone.
local function forget(receipts)
  for n = 1, #receipts, 400 do
    local m = math.min(n + 399, #receipts)
    redis.call('HDEL', unacked, unpack(receipts, n, m))
    redis.call('ZREM', index, unpack(receipts, n, m))
    redis.call('ZREM', leases, unpack(receipts, n, m))
    redis.call('SREM', started, unpack(receipts, n, m))
  end
end
