-- put: store a document and tell those who watch it; a stored success stays (RES-20).
--
-- What is stored tells its own state, as Celery and Celeriac write it: at its beginning, or, in YAML, in a line
-- of its own. For the rest (compressed, or in a form of somebody's own) a key of ours beside it says so.

local function done_key(key)
  return key .. '.celeriac:done'
end

local function is_json(beginning)
  return string.sub(beginning, 1, 1) == '{'
end

-- `whole` returns all of what has this beginning.
local function tells_success(beginning, whole)
  if is_json(beginning) then
    return string.find(beginning, '^{"status":%s?"SUCCESS"') ~= nil
  end
  if string.find(beginning, '^[%l_]+:[%s]') then
    -- YAML, with its keys in order; what is not at the beginning of a line is part of a value.
    return string.find('\n' .. whole() .. '\n', '\nstatus: SUCCESS\n', 1, true) ~= nil
  end
  -- A pickle or msgpack: the state is the first value, a few bytes of form behind its name.
  local first, last = string.find(beginning, 'status', 1, true)
  if not first or first > 20 then
    return false
  end
  local state = string.find(beginning, 'SUCCESS', last + 1, true)
  return state ~= nil and state - last <= 9
end

local LARGE = 4096

-- Whether anybody subscribes to a key. To publish 20 KB to nobody costs as much as to store them (15 us).
local function is_heard(key)
  return redis.call('PUBSUB', 'NUMSUB', key)[2] > 0 or redis.call('PUBSUB', 'NUMPAT') > 0
end

local function put(key, value, life, success)
  local beginning = redis.call('GETRANGE', key, 0, 63)
  if beginning ~= '' then
    if tells_success(beginning, function() return redis.call('GET', key) end)
      or (not is_json(beginning) and redis.call('EXISTS', done_key(key)) == 1) then
      return
    end
  elseif not is_json(value) then
    -- It may be left from a document that somebody else has deleted.
    redis.call('DEL', done_key(key))
  end
  local marked = success and not tells_success(string.sub(value, 1, 64), function() return value end)
  if life == '' then
    redis.call('SET', key, value)
    if marked then
      redis.call('SET', done_key(key), '')
    end
  else
    redis.call('SET', key, value, 'PX', life)
    if marked then
      redis.call('SET', done_key(key), '', 'PX', life)
    end
  end
  if #value < LARGE or is_heard(key) then
    redis.call('PUBLISH', key, value)
  end
end
