-- Tests a send against the address or the device that asks for it, and reserves it where there is room.
-- NEEDS clock credit reservation
-- KEYS 1 pending reservations  2 the bucket
-- ARGV 1 rules (JSON)  2 weight  3 what a proof multiplies caps by  4 id of the reservation  5 lease ms
--      6 a keyed hash of the number  7 its country  8 one of the ten thousand around it
-- Answers: reserved, refused (with exposure, cap, ms until there is room, under the level's name). `weight` is what it weighs,
-- `country` is there where the last approval was for this very country, `vouches` where it stands for those ten thousand.
local now, rules = clock(), cjson.decode(ARGV[1])
lapsed(rules, KEYS[1], now)
local b, level = bucket(rules, KEYS[2], now), string.match(KEYS[2], '^{.-}:(%w+)')
local weight = weighed(rules, b, ARGV[6], now, tonumber(ARGV[2]))
local found = short(rules, b, now, weight, cap(rules, b) * ARGV[3])
local answer = {found and 'refused' or 'reserved', 0}
told(answer, level, found)
give(answer, 'weight', digits(weight))
give(answer, 'country', b.country == ARGV[7] and '1')
give(answer, 'vouches', b.block == ARGV[8] and b.approvals >= rules.vouching and '1')
if not found then reserve(rules, KEYS[1], ARGV[4], weight, {b}, now, ARGV[5]) end
return answer
