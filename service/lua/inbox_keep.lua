-- Keeps a message in the simulator's inbox; the oldest beyond what it holds goes.
-- NEEDS clock
-- KEYS 1 the inbox
-- ARGV 1 the message, sealed  2 its status  3 how many it holds  4 TTL ms
-- Answers: kept; the number is the message's id.
local id = redis.call('HINCRBY', KEYS[1], 'last', 1)
redis.call('HSET', KEYS[1], 's' .. id, int(clock()) .. ' script ' .. ARGV[2], 'm' .. id, ARGV[1])
redis.call('HDEL', KEYS[1], 's' .. id - ARGV[3], 'm' .. id - ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {'kept', id}
