-- Settles a try to post the first event of a line: it is done with, or is to be tried again.
-- NEEDS clock
-- KEYS 1 the lines by when they are due  2 failed tries  3 the line
-- ARGV 1 the line's name  2 the event's id  3 ms until it is tried again (-1: it is done with)  4 lease ms  5 TTL ms
-- Answers: the event that is first now, leased; none when there is none, or when another has settled this one.
local now, first = clock(), redis.call('LINDEX', KEYS[3], 0)
if not first or string.match(first, '^%S+') ~= ARGV[2] then return {} end
if ARGV[3] ~= '-1' then
  redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  redis.call('ZADD', KEYS[1], int(now + ARGV[3]), ARGV[1])
  return {}
end
redis.call('LPOP', KEYS[3])
redis.call('HDEL', KEYS[2], ARGV[1])
first = redis.call('LINDEX', KEYS[3], 0)
if not first then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return {}
end
redis.call('ZADD', KEYS[1], int(now + ARGV[4]), ARGV[1])
return {first}
