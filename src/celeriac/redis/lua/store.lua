-- store: put documents, in order.
--
-- args   the documents (see put)
-- returns the numbers of those that should lie beside their places and do not, the first is 0

for at = 1, #ARGV, 4 do
  local found = redis.call('TYPE', ARGV[at]).ok
  if found ~= 'none' and found ~= 'string' then
    return redis.error_reply('WRONGTYPE the key ' .. ARGV[at] .. ' is no string; remove or rename it')
  end
end
local absent = {}
for at = 1, #ARGV, 4 do
  if lies_beside(ARGV[at + 3]) and redis.call('EXISTS', beside(ARGV[at], ARGV[at + 1])) == 0 then
    absent[#absent + 1] = (at - 1) / 4
  else
    put(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
  end
end
tell()
return absent
