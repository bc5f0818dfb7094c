-- An approval takes back from every bucket that its send was charged to.
-- NEEDS clock credit
-- KEYS the buckets
-- ARGV 1 rules (JSON)  2 weight  3 country, which addresses and devices remember ('' for prefixes)
--      4 a keyed hash of the ten thousand numbers around it, which an address remembers ('' for others)
-- Answers: paid, then for each bucket how much it took back.
local now, rules = clock(), cjson.decode(ARGV[1])
local answer, paid = {'paid', 0}, {}
for _, key in ipairs(KEYS) do
  local b = bucket(rules, key, now)
  settle(rules, b, now)
  local most = rules.payback * math.max(1, burden(b, tonumber(ARGV[2])))
  give(answer, key, digits(math.min(b.exposure, most)))
  b.exposure = math.max(0, b.exposure - most)
  b.approvals, b.streak, b.country, b.block = b.approvals + 1, 0, ARGV[3], ARGV[4]
  paid[string.match(key, '^{.-}:(%w+)')] = b
end
if paid.range then
  local usual = rules.crowding * rate(rules, paid.range)
  paid.block3.usual, paid.block4.usual = usual / 1000, usual / 100
end
for _, b in pairs(paid) do keep(b) end
return answer
