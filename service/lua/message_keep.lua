-- Keeps whose delivery a provider's message is, for providers whose receipts name nothing else.
-- KEYS 1 the message
-- ARGV 1 delivery  2 TTL ms
-- Answers: the receipts that were faster than this, each "<status> <reason>".
redis.call('HSETNX', KEYS[1], 'delivery', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local early = redis.call('HMGET', KEYS[1], 'early1', 'early2', 'early3', 'early4')
redis.call('HDEL', KEYS[1], 'early1', 'early2', 'early3', 'early4')
local answer = {}
for _, receipt in ipairs(early) do
  if receipt then answer[#answer + 1] = receipt end
end
return answer
