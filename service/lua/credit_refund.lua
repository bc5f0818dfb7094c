-- Gives back what a send was charged that does not happen: a reservation, or what was committed already.
-- NEEDS clock credit
-- KEYS 1 pending reservations  2... the buckets
-- ARGV 1 rules (JSON)  2 the reservation  3 committed ('' for not)
-- Answers: refunded, lapsed (it was given back before).
if redis.call('ZREM', KEYS[1], ARGV[2]) == 0 and ARGV[3] == '' then return {'lapsed', 0} end
refund(cjson.decode(ARGV[1]), string.match(KEYS[1], '^{.-}:'), ARGV[2], clock())
return {'refunded', 0}
