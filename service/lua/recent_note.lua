-- Notes what is latest of its sort in an application; the oldest of it goes.
-- KEYS 1 the list
-- ARGV 1 how many it keeps  2 TTL ms  3… ids, the latest last
-- Answers: noted.
redis.call('LPUSH', KEYS[1], unpack(ARGV, 3))
redis.call('LTRIM', KEYS[1], 0, ARGV[1] - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'noted', 0}
