-- put: store a document and tell those who watch it; a stored success stays (RES-20).
--
-- What is stored tells its own state near its beginning, as Celery and Celeriac write it. For the rest
-- (compressed, or in a form of somebody's own) a key of ours beside it says so.

local function done_key(key)
  return key .. '.celeriac:done'
end

local function tells_success(beginning)
  if string.sub(beginning, 1, 1) == '{' then
    return string.find(beginning, '^{"status":%s?"SUCCESS"') ~= nil
  end
  return string.find(beginning, 'SUCCESS', 1, true) ~= nil
end

local function put(key, value, life, success)
  local beginning = redis.call('GETRANGE', key, 0, 63)
  if beginning ~= '' then
    if tells_success(beginning) or redis.call('EXISTS', done_key(key)) == 1 then
      return
    end
  end
  local marked = success and not tells_success(string.sub(value, 1, 64))
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
  redis.call('PUBLISH', key, value)
end
