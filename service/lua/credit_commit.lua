-- Makes a reservation last: its send happens.
-- NEEDS clock commit
-- KEYS 1 pending reservations  2 the bucket that remembers to which number it was (none for money)
-- ARGV 1 the reservation  2 a keyed hash of the number
-- Answers: committed, lapsed (it came too late, and was given back).
return {commit(KEYS[1], ARGV[1], KEYS[2], ARGV[2]) and 'committed' or 'lapsed', 0}
