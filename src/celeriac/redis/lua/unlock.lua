-- unlock: give a mutex back, if it is still ours.
--
-- keys   the mutex
-- args   the token it was taken with
-- returns 1 if it was ours

if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
