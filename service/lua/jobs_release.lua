-- Gives leased jobs back, so that another worker takes them at once.
-- NEEDS clock
-- KEYS 1 due
-- ARGV the ids
-- Answers: nothing.
local now = int(clock())
for _, id in ipairs(ARGV) do redis.call('ZADD', KEYS[1], 'XX', now, id) end
return {}
