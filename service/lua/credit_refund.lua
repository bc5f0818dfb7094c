-- Gives back what a send was charged that does not happen: a reservation, or what was committed already.
-- NEEDS clock credit
-- KEYS 1 pending reservations  2... the buckets
-- ARGV 1 rules (JSON)  2 weight  3 the reservation  4 committed ('' for not)
-- Answers: refunded, lapsed (it was given back before).
local now, rules = clock(), cjson.decode(ARGV[1])
if redis.call('ZREM', KEYS[1], ARGV[3]) == 0 and ARGV[4] == '' then return {'lapsed', 0} end
for i = 2, #KEYS do refund(rules, KEYS[i], now, tonumber(ARGV[2])) end
return {'refunded', 0}
