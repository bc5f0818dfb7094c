-- Undoes credit_pay, where the verification turned out not to be approved by this check.
-- NEEDS clock credit
-- KEYS the buckets
-- ARGV 1 rules (JSON)  2... for each bucket, how much it took back
-- Answers: undone.
local now, rules = clock(), cjson.decode(ARGV[1])
for i, key in ipairs(KEYS) do
  local b = bucket(rules, key, now)
  settle(rules, b, now)
  b.exposure = b.exposure + ARGV[i + 1]
  b.approvals = math.max(0, b.approvals - 1)
  keep(b)
end
return {'undone', 0}
