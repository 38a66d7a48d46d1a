-- put: store a document and tell those who watch it; a stored success stays (RES-20).
--
-- A document is told by four arguments: key, value, milliseconds to live or nothing, and a sum: 1 for a success,
-- 2 if it lies beside its place, under the key with `.celeriac:new:` and the value behind it.
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

local function lies_beside(how)
  return tonumber(how) >= 2
end

local function beside(key, name)
  return key .. '.celeriac:new:' .. name
end

-- What has been stored and is to be told: the keys, and the documents, or false for what lies in its place.
local keys, documents = {}, {}
-- Whether to ask first who listens: to tell 20 KB to nobody costs more than to store them, and to ask about a
-- hundred keys as much as to tell one.
local asks = false
local FEW = 2

local function stored(key, document)
  keys[#keys + 1] = key
  documents[#keys] = document
  asks = asks or #keys > FEW or not document or #document >= LARGE
end

local function listeners()
  local counts = {}
  for n = 1, #keys, 400 do
    local found = redis.call('PUBSUB', 'NUMSUB', unpack(keys, n, math.min(n + 399, #keys)))
    for m = 2, #found, 2 do
      counts[#counts + 1] = found[m]
    end
  end
  return counts
end

-- Tell those who watch the keys. To be called in the database of the documents.
local function tell()
  local counts = asks and redis.call('PUBSUB', 'NUMPAT') == 0 and listeners()
  for n, key in ipairs(keys) do
    local document = (not counts or counts[n] > 0) and (documents[n] or redis.call('GET', key))
    if document then
      redis.call('PUBLISH', key, document)
    end
  end
end

-- Whether a success is stored there.
local function is_done(key, beginning)
  return tells_success(beginning, function() return redis.call('GET', key) end)
    or (not is_json(beginning) and redis.call('EXISTS', done_key(key)) == 1)
end

local function set(key, value, life)
  if life == '' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', life)
  end
end

-- Store what nothing stands in the way of: for most runs the only document they have.
local function set_first(key, value, life)
  if life == '' then
    return redis.call('SET', key, value, 'NX')
  end
  return redis.call('SET', key, value, 'NX', 'PX', life)
end

-- Put a document that lies beside its place into it. No large text is touched.
local function fetch(key, life, there)
  redis.call('RENAME', there, key)
  if life == '' then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIRE', key, life)
  end
end

local function put(key, value, life, how)
  local aside = lies_beside(how) and beside(key, value)
  if not aside and is_json(value) and (how % 2 == 0 or tells_success(value)) and set_first(key, value, life) then
    stored(key, value)
    return
  end
  local old = redis.call('GETRANGE', key, 0, 63)
  if old ~= '' and is_done(key, old) then
    if aside then
      redis.call('UNLINK', aside)
    end
    return
  end
  local beginning = aside and redis.call('GETRANGE', aside, 0, 63) or string.sub(value, 1, 64)
  if old == '' and not is_json(beginning) then
    -- It may be left from a document that somebody else has deleted.
    redis.call('DEL', done_key(key))
  end
  local function whole()
    return aside and redis.call('GET', aside) or value
  end
  local marked = how % 2 == 1 and not tells_success(beginning, whole)
  if aside then
    fetch(key, life, aside)
  else
    set(key, value, life)
  end
  if marked then
    set(done_key(key), '', life)
  end
  stored(key, not aside and value)
end

-- Whether one of the documents of these arguments should lie beside its place and does not.
local function absent(first, last, database, own)
  for at = first, last, 4 do
    if lies_beside(ARGV[at + 3]) then
      redis.call('SELECT', database)
      local found = redis.call('EXISTS', beside(ARGV[at], ARGV[at + 1]))
      redis.call('SELECT', own)
      if found == 0 then
        return true
      end
    end
  end
  return false
end

local function put_all(first, last)
  for at = first, last, 4 do
    put(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
  end
end
