-- trial: find out whether this user may store results from within a script.
--
-- args   database, a key that nobody needs
-- returns nothing

redis.call('SELECT', ARGV[1])
redis.call('GETRANGE', ARGV[2], 0, 63)
redis.call('EXISTS', ARGV[2])
-- First: a full server is no reason.
redis.call('DEL', ARGV[2])
redis.call('SET', ARGV[2], '', 'PX', 1)
redis.call('PUBLISH', ARGV[2], '')
redis.call('PUBSUB', 'NUMSUB', ARGV[2])
local beside = ARGV[2] .. '.celeriac:new:trial'
redis.call('SET', beside, '', 'PX', 1000)
redis.call('RENAME', beside, ARGV[2])
redis.call('GET', ARGV[2])
redis.call('PERSIST', ARGV[2])
redis.call('PEXPIRE', ARGV[2], 1)
redis.call('UNLINK', beside)
