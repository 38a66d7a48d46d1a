-- ack: make completions true of runs that are simply done: acknowledged, nothing follows from them.
--
-- What most commits are, in a few words: what a server does with a script before the first of its own commands,
-- it does each time.
--
-- keys   unacked, unacked_index, celeriac:leases, celeriac:started
-- args   database of the results or nothing, database of the queues, then for each completion:
--        receipt, number of documents, the documents (see put)
-- returns for each completion: settled, stale, absent

local error = wrong()
if error then
  return error
end

local verdicts, receipts, firsts = {}, {}, {}
local at = 3
while at <= #ARGV do
  local receipt, first = ARGV[at], at + 2
  at = first + 4 * ARGV[at + 1]
  local verdict = 'settled'
  if firsts[receipt] or not redis.call('ZSCORE', leases, receipt)
    or redis.call('HEXISTS', unacked, receipt) == 0 then
    verdict = 'stale'
  elseif absent(first, at - 1, ARGV[1], ARGV[2]) then
    verdict = 'absent'
  else
    receipts[#receipts + 1] = receipt
    firsts[receipt] = first
  end
  verdicts[#verdicts + 1] = verdict
end

unhindered()
forget(receipts)
if ARGV[1] ~= '' then
  redis.call('SELECT', ARGV[1])
  for _, receipt in ipairs(receipts) do
    local first = firsts[receipt]
    put_all(first, first + 4 * ARGV[first - 1] - 1)
  end
end
return verdicts
