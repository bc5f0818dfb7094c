-- Gives back what a send was charged that does not happen: a reservation, or what was committed already.
-- NEEDS clock credit
-- KEYS 1 pending reservations  2... the buckets
-- ARGV 1 rules (JSON)  2 the reservation  3 committed ('' for not)  4 vouched: its blocks count it apart ('' for not)
--      5 new: it repeated no other, so the first bucket forgets to which number it was ('' for not)
-- Answers: refunded, lapsed (it was given back before).
local now, rules = clock(), cjson.decode(ARGV[1])
if redis.call('ZREM', KEYS[1], ARGV[2]) == 0 and ARGV[3] == '' then return {'lapsed', 0} end
local weight = tonumber(string.match(ARGV[2], '^%S+ (%S+)'))
for i = 2, #KEYS do
  local apart = ARGV[4] ~= '' and string.find(KEYS[i], ':block', 1, true)
  refund(rules, KEYS[i], now, weight, apart and -1 or 1)
end
if ARGV[5] ~= '' then redis.call('HDEL', KEYS[2], 'p', 'q') end
return {'refunded', 0}
