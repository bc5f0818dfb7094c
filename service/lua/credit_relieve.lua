-- A send failed, so nobody was paid for it: its buckets get its weight back.
-- NEEDS clock credit
-- KEYS the buckets
-- ARGV 1 rules (JSON)  2 weight
-- Answers: relieved.
local now, rules = clock(), cjson.decode(ARGV[1])
for _, key in ipairs(KEYS) do
  local b = bucket(rules, key, now)
  settle(rules, b, now)
  add(b, -burden(b, tonumber(ARGV[2])), 0, 0, 0)
  keep(b)
end
return {'relieved', 0}
