-- Finds whose delivery a provider's message is; a receipt that is faster than the answer to its send waits for it.
-- KEYS 1 the message
-- ARGV 1 the receipt, "<status> <reason>"  2 how long it waits, ms (0: not)
-- Answers: the delivery, or nothing.
local delivery = redis.call('HGET', KEYS[1], 'delivery')
if delivery then return {delivery} end
if ARGV[2] ~= '0' then
  for n = 1, 4 do
    if redis.call('HSETNX', KEYS[1], 'early' .. n, ARGV[1]) == 1 then break end
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {}
