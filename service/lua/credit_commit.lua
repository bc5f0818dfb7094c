-- Makes a reservation last: its send happens.
-- KEYS 1 pending reservations
-- ARGV 1 the reservation
-- Answers: committed, lapsed (it came too late, and was given back).
return {redis.call('ZREM', KEYS[1], ARGV[1]) == 1 and 'committed' or 'lapsed', 0}
