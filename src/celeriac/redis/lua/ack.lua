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

local asked, firsts = {}, {}
local at = 3
while at <= #ARGV do
  asked[#asked + 1] = ARGV[at]
  firsts[#asked] = at + 2
  at = at + 2 + 4 * ARGV[at + 1]
end

local verdicts, receipts, documents_of = {}, {}, {}
for n = 1, #asked, 400 do
  local leased = redis.call('ZMSCORE', leases, unpack(asked, n, math.min(n + 399, #asked)))
  for m = 1, #leased do
    local receipt, first = asked[n + m - 1], firsts[n + m - 1]
    local verdict = 'settled'
    if documents_of[receipt] or not leased[m] or redis.call('HEXISTS', unacked, receipt) == 0 then
      verdict = 'stale'
    elseif absent(first, first + 4 * ARGV[first - 1] - 1, ARGV[1], ARGV[2]) then
      verdict = 'absent'
    else
      receipts[#receipts + 1] = receipt
      documents_of[receipt] = first
    end
    verdicts[#verdicts + 1] = verdict
  end
end

unhindered()
forget(receipts)
if ARGV[1] ~= '' then
  redis.call('SELECT', ARGV[1])
  for _, receipt in ipairs(receipts) do
    local first = documents_of[receipt]
    put_all(first, first + 4 * ARGV[first - 1] - 1)
  end
  tell()
end
return verdicts
