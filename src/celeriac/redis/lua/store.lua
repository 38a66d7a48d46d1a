-- store: put documents, in order.
--
-- args   for each document: key, value, milliseconds to live or nothing, 1 for a success
-- returns nothing

for at = 1, #ARGV, 4 do
  local found = redis.call('TYPE', ARGV[at]).ok
  if found ~= 'none' and found ~= 'string' then
    return redis.error_reply('WRONGTYPE the key ' .. ARGV[at] .. ' is no string; remove or rename it')
  end
end
for at = 1, #ARGV, 4 do
  put(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3] == '1')
end
