-- Leases the lines of an application whose first event is to be posted now.
-- NEEDS clock
-- KEYS 1 the lines by when they are due  2 failed tries
-- ALSO the line of each verification
-- ARGV 1 lease ms  2 how many at most
-- Answers: how many lines there are, then for each its name, how often its first event failed, and that event.
local now = clock()
local lines = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, ARGV[2])
local answer = {redis.call('ZCARD', KEYS[1])}
for _, line in ipairs(lines) do
  local event = redis.call('LINDEX', string.match(KEYS[1], '^{.-}:') .. 'line:' .. line, 0)
  if event then
    redis.call('ZADD', KEYS[1], int(now + ARGV[1]), line)
    answer[#answer + 1] = line
    answer[#answer + 1] = tonumber(redis.call('HGET', KEYS[2], line) or 0)
    answer[#answer + 1] = event
  else
    redis.call('ZREM', KEYS[1], line)
  end
end
return answer
