-- An approval takes back from every bucket that its send was charged to.
-- NEEDS clock credit
-- KEYS the buckets
-- ARGV 1 rules (JSON)  2 weight  3 country, which addresses and devices remember ('' for prefixes)
-- Answers: paid, then for each bucket how much it took back.
local now, rules = clock(), cjson.decode(ARGV[1])
local answer = {'paid', 0}
for _, key in ipairs(KEYS) do
  local b = bucket(rules, key, now)
  settle(rules, b, now)
  local most = rules.payback * math.max(1, burden(b, tonumber(ARGV[2])))
  answer[#answer + 1] = key
  answer[#answer + 1] = digits(math.min(b.exposure, most))
  b.exposure = math.max(0, b.exposure - most)
  b.approvals, b.streak, b.country = b.approvals + 1, 0, ARGV[3]
  keep(b)
end
return answer
