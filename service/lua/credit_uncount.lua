-- Makes a reservation last, which does not count where it would be crowded: the address stands for its number.
-- NEEDS clock credit
-- KEYS 1 pending reservations  2... the blocks
-- ARGV 1 rules (JSON)  2 the reservation
-- Answers: committed, lapsed (it came too late, and was given back).
local now, rules = clock(), cjson.decode(ARGV[1])
if redis.call('ZREM', KEYS[1], ARGV[2]) == 0 then return {'lapsed', 0} end
for i = 2, #KEYS do
  local b = bucket(rules, KEYS[i], now)
  settle(rules, b, now)
  add(b, 0, 0, -1)
  keep(b)
end
return {'committed', 0}
