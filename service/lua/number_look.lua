-- What speaks for and against a send to a number; nothing is counted yet.
-- NEEDS clock number
-- KEYS 1 what is known of the number  2 its mark by hand
-- ARGV 1 rules (JSON)
-- Answers: trusted, unknown; `hand` is its mark (trust or deny, and what else is noted); and for each rule that refuses: exposure, cap, ms until
-- there is room.
local now, rules = clock(), cjson.decode(ARGV[1])
local n = known(rules, KEYS[1], now)
local answer = {trusted(rules, n, now) and 'trusted' or 'unknown', 0}
for rule, found in pairs({number = hurried(rules, n, now) or false, unconverted = exhausted(rules, n) or false}) do
  if found then
    answer[#answer + 1] = rule
    answer[#answer + 1] = string.format('%.10g %.10g %.0f', unpack(found))
  end
end
local mark = redis.call('GET', KEYS[2])
if mark then
  answer[#answer + 1] = 'hand'
  answer[#answer + 1] = mark
end
return answer
