-- What buckets hold, for those who look.
-- NEEDS clock credit
-- KEYS the buckets
-- ARGV 1 rules (JSON)
-- Answers: for each, when it was seen first (ms, 0 for never), exposure, cap, recent sends, sends, approvals (the last two
-- with the half-life of a bucket's memory).
local now, rules, rows = clock(), cjson.decode(ARGV[1]), {}
for i, key in ipairs(KEYS) do
  local b = bucket(rules, key, now)
  local seen = redis.call('EXISTS', key) == 1 and int(b.since) or '0'
  rows[i] = {seen, digits(exposure(rules, b, now)), digits(cap(rules, b)), digits(recent(rules, b, now)), digits(b.sends),
    digits(b.approvals)}
end
return rows
