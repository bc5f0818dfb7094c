-- Leases the verifications of a shard whose time has come.
-- NEEDS clock
-- KEYS 1 due
-- ARGV 1 lease ms  2 how many at most
-- Answers: how many were due, the ms until the next is due after these (-1 for none), the time (ms), then for each its
-- id and the ms by which it is late.
local now = clock()
local jobs = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local answer = {0, -1, now}
for i = 1, #jobs, 2 do
  answer[#answer + 1] = jobs[i]
  answer[#answer + 1] = now - jobs[i + 1]
  redis.call('ZADD', KEYS[1], int(now + ARGV[1]), jobs[i])
end
local left = redis.call('ZCOUNT', KEYS[1], '-inf', int(now))
answer[1] = #jobs / 2 + left
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if first[2] then answer[2] = math.max(0, first[2] - now) end
return answer
