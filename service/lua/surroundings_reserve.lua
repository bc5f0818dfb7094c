-- Tests a send against the prefixes of its number and its country, and reserves it where there is room.
-- NEEDS clock credit reservation hand
-- KEYS 1 pending reservations  2 country  3 block3  4 block4  5 range  6 hand rules  7 ranges by when they were last used
-- ARGV 1 rules (JSON)  2 weight  3 what a proof multiplies caps by  4 id of the reservation  5 lease ms  6 the number's digits
-- Answers: reserved (all), part (all but the country, which is full), refused (nothing), and for each rule that has no room:
-- exposure, cap, ms until there is. `hand` is the rule by hand of the longest prefix that has one.
local now, rules, proof = clock(), cjson.decode(ARGV[1]), tonumber(ARGV[3])
lapsed(rules, KEYS[1], now)
local buckets = {}
for i = 2, 5 do buckets[i - 1] = bucket(rules, KEYS[i], now) end
local country, block3, block4, range = unpack(buckets)
local weight, spread = tonumber(ARGV[2]), rules.spread * rate(rules, range)
local answer = {'', 0}
told(answer, 'block3', short(rules, block3, now, weight, (block3.level.cap + spread / 1000) * proof))
told(answer, 'block4', short(rules, block4, now, weight, (block4.level.cap + spread / 100) * proof))
told(answer, 'range', short(rules, range, now, weight, cap(rules, range) * proof))
local n3, n4, n, total = recent(rules, block3, now), recent(rules, block4, now), recent(rules, range, now), recent(rules, country, now)
told(answer, 'concentration3', concentrated(rules, rules.lone_block3, n3, rules.share_block3 * math.max(0, n4 - n3), proof))
local around = rules.share_block4 * math.max(0, n - n4) + rules.share_country * math.max(0, total - n4)
told(answer, 'concentration4', concentrated(rules, rules.lone_block4, n4, around, proof))
local full = short(rules, country, now, weight, cap(rules, country) * proof)
answer[1] = #answer > 2 and 'refused' or full and 'part' or 'reserved'
told(answer, 'country', full)
if answer[1] ~= 'refused' then
  local charged = {block3, block4, range, answer[1] == 'reserved' and country or nil}
  reserve(rules, KEYS[1], ARGV[4], ARGV[2], charged, now, ARGV[5])
  redis.call('ZADD', KEYS[7], int(now), string.match(KEYS[5], '^{.-}:(.*)$'))
  redis.call('PEXPIRE', KEYS[7], int(rules.range.keep))
end
local rule = by_hand(KEYS[6], ARGV[6], now)
if rule then
  answer[#answer + 1] = 'hand'
  answer[#answer + 1] = rule
end
return answer
