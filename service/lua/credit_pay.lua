-- An approval takes back from every bucket that its send was charged to.
-- NEEDS clock credit
-- KEYS the buckets; a range after its blocks
-- ARGV 1 rules (JSON)  2 weight  3 country, which addresses and devices remember ('' for prefixes)
-- Answers: paid, then for each bucket how much it took back.
local now, rules = clock(), cjson.decode(ARGV[1])
local answer, held = {'paid', 0}, {}
for i, key in ipairs(KEYS) do
  local b = bucket(rules, key, now)
  settle(rules, b, now)
  local most = rules.payback * math.max(1, burden(b, tonumber(ARGV[2])))
  give(answer, key, digits(math.min(b.exposure, most)))
  b.exposure = math.max(0, b.exposure - most)
  b.approvals, b.streak, b.country = b.approvals + 1, 0, ARGV[3]
  held[string.match(key, '^{.-}:(%w+)')] = b
end
if held.range then -- what counts as a block's history is bounded by that of its range
  local usual = rules.crowding * rate(rules, held.range)
  held.block3.usual, held.block4.usual = usual / 1000, usual / 100
end
for _, b in pairs(held) do keep(b) end
return answer
