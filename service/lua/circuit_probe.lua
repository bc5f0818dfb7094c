-- Lets one send through an open circuit whose pause is over, to see whether its provider is back.
-- NEEDS clock
-- KEYS 1 the circuit
-- ARGV 1 how long nobody else may probe, ms
-- Answers: granted, held (the number is the ms until it may be probed), closed.
local now = clock()
local c = redis.call('HMGET', KEYS[1], 'pause', 'until')
if tonumber(c[1] or 0) == 0 then return {'closed', 0} end
if now < tonumber(c[2]) then return {'held', c[2] - now} end
redis.call('HSET', KEYS[1], 'until', int(now + ARGV[1]))
return {'granted', 0}
