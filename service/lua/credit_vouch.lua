-- Makes a reservation last whose address stands for its number: it adds to no crowd, and lets one from elsewhere be in it.
-- NEEDS clock credit commit
-- KEYS 1 pending reservations  2 block3, which remembers to which number it was  3 block4
-- ARGV 1 the reservation  2 a keyed hash of the number  3 rules (JSON)
-- Answers: committed, lapsed (it came too late, and was given back).
if not commit(KEYS[1], ARGV[1], KEYS[2], ARGV[2]) then return {'lapsed', 0} end
local now, rules = clock(), cjson.decode(ARGV[3])
for i = 2, 3 do
  local b = bucket(rules, KEYS[i], now)
  settle(rules, b, now)
  add(b, 0, 0, -2, 0) -- the reservation had added one
  keep(b)
end
return {'committed', 0}
