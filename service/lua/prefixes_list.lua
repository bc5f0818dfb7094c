-- What is known of the prefixes of a country: its ranges, what is blocked, and the rules by hand.
-- NEEDS clock credit
-- KEYS 1 ranges by when they were last used  2 blocked prefixes  3 hand rules
-- ALSO the buckets of those prefixes
-- ARGV 1 rules (JSON)  2 how many of each at most
-- Answers: rows of name, exposure, cap, recent sends, sends, approvals (both with the half-life of a bucket's memory), seen
-- first, blocked until (both ms, 0 for not); then rows of `hand:<digits>` and its rule.
local now, rules, rows, seen = clock(), cjson.decode(ARGV[1]), {}, {}
local tag = string.match(KEYS[1], '^{.-}:')
local function row(name)
  if seen[name] then return end
  seen[name] = true
  local b = bucket(rules, tag .. name, now)
  local ending = tonumber(redis.call('ZSCORE', KEYS[2], name) or 0)
  rows[#rows + 1] = {name, digits(exposure(rules, b, now)), digits(cap(rules, b)), digits(recent(rules, b, now)), digits(b.sends),
    digits(b.approvals), int(b.since), int(ending > now and ending or 0)}
end
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, ARGV[2] - 1)) do row(name) end
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1)) do row(name) end
local hand = redis.call('HGETALL', KEYS[3])
for i = 1, #hand, 2 do
  local ending = string.match(hand[i + 1], '^%S+ (%d+)')
  if ending == '0' or now < tonumber(ending) then rows[#rows + 1] = {'hand:' .. hand[i], hand[i + 1]} end
end
return rows
