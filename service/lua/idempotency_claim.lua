-- Binds an idempotency key to the first body that came with it, wherever the number of that body has its shard.
-- KEYS 1 the key's claim
-- ARGV 1 fingerprint  2 TTL ms
-- Answers: ours, conflict.
local first = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if first or redis.call('GET', KEYS[1]) == ARGV[1] then return {'ours', 0} end
return {'conflict', 0}
