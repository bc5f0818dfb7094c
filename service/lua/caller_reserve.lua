-- Tests a send against the address or the device that asks for it, and reserves it where there is room.
-- NEEDS clock credit reservation
-- KEYS 1 pending reservations  2 the bucket
-- ARGV 1 rules (JSON)  2 weight  3 what a proof multiplies caps by  4 id of the reservation  5 lease ms  6 country
-- Answers: reserved, refused (with exposure, cap, ms until there is room, under the level's name). The number is 1 where the
-- last approval was for this very country.
local now, rules = clock(), cjson.decode(ARGV[1])
lapsed(rules, KEYS[1], now)
local b = bucket(rules, KEYS[2], now)
local found = short(rules, b, now, tonumber(ARGV[2]), cap(rules, b) * ARGV[3])
local answer = {found and 'refused' or 'reserved', b.country == ARGV[6] and 1 or 0}
told(answer, string.match(KEYS[2], '^{.-}:(%w+)'), found)
if not found then reserve(rules, KEYS[1], ARGV[4], ARGV[2], {b}, now, ARGV[5]) end
return answer
