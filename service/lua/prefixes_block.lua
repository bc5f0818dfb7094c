-- Notes which prefixes of a country have no room, and until when: for those who look, no rule reads it.
-- NEEDS clock
-- KEYS 1 blocked prefixes
-- ARGV for each: ms until it has room, its bucket's name
-- Answers: noted (the number is how many are blocked now).
local now = clock()
for i = 1, #ARGV, 2 do redis.call('ZADD', KEYS[1], int(now + ARGV[i]), ARGV[i + 1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', int(now))
local longest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if longest[2] then redis.call('PEXPIREAT', KEYS[1], int(longest[2])) end
return {'noted', redis.call('ZCARD', KEYS[1])}
