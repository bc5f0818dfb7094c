-- Tests a send against the prefixes of its number and its country, and reserves it where there is room.
-- NEEDS clock credit reservation crowd hand
-- KEYS 1 pending reservations  2 country  3 block3  4 block4  5 range  6 hand rules  7 ranges by when they were last used
-- ARGV 1 rules (JSON)  2 weight  3 what a proof multiplies caps by  4 id of the reservation  5 lease ms
--      6 a keyed hash of the number  7 its digits  8 vouched: its address stands for it ('' for not)
-- Answers: reserved (all), part (all but the country, which is full), refused (nothing), and for each rule that has no room:
-- exposure, cap, ms until there is. `weight` is what it weighs, `hand` the rule of the longest prefix that has one;
-- `admits` is there where addresses may still vouch for these ten thousand numbers.
local now, rules, proof = clock(), cjson.decode(ARGV[1]), tonumber(ARGV[3])
lapsed(rules, KEYS[1], now)
local buckets = {}
for i = 2, 5 do buckets[i - 1] = bucket(rules, KEYS[i], now) end
local country, block3, block4, range = unpack(buckets)
local weight, usual = weighed(rules, block3, ARGV[6], now, tonumber(ARGV[2])), rate(rules, range)
local sends = block4.sends * halved(passed(block4, now), rules.memory)
local admits = sends + 1 - rules.vouching_sends <= ROUNDING
local vouched = admits and ARGV[8] ~= ''
local answer, blocks = {'', 0}, vouched and math.max(proof, rules.proof) or proof
told(answer, 'block3', short(rules, block3, now, weight, (block3.level.cap + rules.spread * usual / 1000) * blocks))
told(answer, 'block4', short(rules, block4, now, weight, (block4.level.cap + rules.spread * usual / 100) * blocks))
told(answer, 'range', short(rules, range, now, weight, cap(rules, range) * proof))
if not vouched then crowd(rules, answer, country, block3, block4, range, now, proof) end
local full = short(rules, country, now, weight, cap(rules, country) * proof)
answer[1] = #answer > 2 and 'refused' or full and 'part' or 'reserved'
told(answer, 'country', full)
if answer[1] ~= 'refused' then
  local charged = {block3, block4, range, answer[1] == 'reserved' and country or nil}
  reserve(rules, KEYS[1], ARGV[4], weight, charged, now, ARGV[5])
  redis.call('ZADD', KEYS[7], int(now), string.match(KEYS[5], '^{.-}:(.*)$'))
  redis.call('PEXPIRE', KEYS[7], int(rules.range.keep))
end
give(answer, 'weight', digits(weight))
give(answer, 'admits', admits and '1')
give(answer, 'hand', by_hand(KEYS[6], ARGV[7], now))
return answer
