-- commit: make completions true, each all or nothing.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   prefix, separator, database of the results or nothing, database of the queues, then completions:
--        receipt, settlement, last words, task id, task name,
--        group (or nothing), index, member, size, token,
--        number of documents, the documents (see put), number of messages, the messages (see send)
-- returns for each completion: settled, stale, broken, absent, or a list: held, token, members

local error = wrong()
if error then
  return error
end

local LIFE_OF_CHORD = 86400
local verdicts, gone, works = {}, {}, {}
local at = 5

local function word()
  at = at + 1
  return ARGV[at - 1]
end

local function read()
  local work = {receipt = word(), settlement = word(), reason = word(), id = word(), task = word()}
  work.group, work.position, work.member, work.size, work.token = word(), word(), word(), tonumber(word()), word()
  work.documents = tonumber(word())
  work.first_document = at
  at = at + 4 * work.documents
  work.last_document = at - 1
  work.messages = tonumber(word())
  work.first_message = at
  at = at + SEND * work.messages
  return work
end

local function returns(settlement)
  return settlement == 'requeue' or settlement == 'return' or settlement == 'loss'
end

-- Whether everything can be written that this asks for.
local function possible(work)
  for n = 0, work.messages - 1 do
    if not can_send(work.first_message + SEND * n) then
      return false
    end
  end
  if work.group ~= '' and not is(own .. 'chord:' .. work.group, 'hash') then
    return false
  end
  if work.settlement == 'dead' and not is(own .. 'dead', 'zset') then
    return false
  end
  return not returns(work.settlement) or can_return(work.receipt)
end

-- Count a member of a chord. Returns a verdict for what is not to be settled now.
local function join(work)
  local key = own .. 'chord:' .. work.group
  if work.token ~= '' then
    if redis.call('HGET', key, 'done') or redis.call('HGET', key, 'claim') ~= work.token then
      return 'stale'
    end
    redis.call('DEL', key)
    redis.call('HSET', key, 'done', '1')
    redis.call('EXPIRE', key, LIFE_OF_CHORD)
    return nil
  end
  if redis.call('HGET', key, 'done') then
    return nil
  end
  redis.call('HSETNX', key, 'm' .. work.position, work.member)
  redis.call('EXPIRE', key, LIFE_OF_CHORD)
  local claim = redis.call('HGET', key, 'claim')
  local count = redis.call('HLEN', key) - (claim and 1 or 0)
  if count < work.size then
    return nil
  end
  if claim and claim ~= work.receipt and redis.call('ZSCORE', leases, claim) then
    return nil
  end
  redis.call('HSET', key, 'claim', work.receipt)
  local fields, members = redis.call('HGETALL', key), {}
  for n = 1, #fields, 2 do
    local position = string.match(fields[n], '^m(%d+)$')
    if position then
      members[#members + 1] = {tonumber(position), fields[n + 1]}
    end
  end
  table.sort(members, function(one, other) return one[1] < other[1] end)
  local held = {'held', work.receipt}
  for _, pair in ipairs(members) do
    held[#held + 1] = pair[2]
  end
  return held
end

local function bury(work)
  local number = redis.call('INCR', own .. 'serial')
  local text = envelope(redis.call('HGET', unacked, work.receipt))
  local _, queue = parts(work.receipt)
  redis.call('HSET', own .. 'dead:' .. number, 'envelope', text, 'queue', queue, 'reason', work.reason,
    'died', stamp(now), 'id', work.id, 'task', work.task)
  redis.call('ZADD', own .. 'dead', number, number)
  drop(work.receipt)
end

local function lost(fate)
  fate[3] = fate[3] + 1
end

local acked = {}

local function settle(work)
  local how = work.settlement
  if how == 'ack' then
    acked[#acked + 1] = work.receipt
  elseif how == 'dead' then
    bury(work)
  elseif how ~= 'keep' then
    give_back(work.receipt, how == 'loss' and lost or unchanged, how == 'requeue')
  end
end

while at <= #ARGV do
  local work = read()
  works[#works + 1] = work
  if gone[work.receipt] or not redis.call('ZSCORE', leases, work.receipt)
    or redis.call('HEXISTS', unacked, work.receipt) == 0 then
    work.verdict = 'stale'
  elseif not possible(work) then
    work.verdict = 'broken'
  elseif absent(work.first_document, work.last_document, ARGV[3], ARGV[4]) then
    work.verdict = 'absent'
  elseif work.settlement ~= 'keep' and work.group == '' then
    gone[work.receipt] = true
  end
end

unhindered()
for _, work in ipairs(works) do
  if not work.verdict then
    if work.group ~= '' then
      work.verdict = gone[work.receipt] and 'stale' or join(work)
    end
    if not work.verdict then
      gone[work.receipt] = work.settlement ~= 'keep'
      settle(work)
    end
  end
end
forget(acked)
for n, work in ipairs(works) do
  local verdict = work.verdict
  if not verdict or type(verdict) == 'table' then
    for m = 0, work.messages - 1 do
      send(work.first_message + SEND * m)
    end
  end
  verdicts[n] = verdict or 'settled'
end
if ARGV[3] ~= '' then
  redis.call('SELECT', ARGV[3])
  for _, work in ipairs(works) do
    if not work.verdict or type(work.verdict) == 'table' then
      put_all(work.first_document, work.last_document)
    end
  end
  tell()
end
return verdicts
