-- Gives back what budget_take took.
-- NEEDS clock budget
-- KEYS 1 pending reservations  2 what the owner spent
-- ARGV 1 the reservation  2 committed ('' for not)
-- Answers: returned.
if ARGV[2] ~= '' then redis.call('ZADD', KEYS[1], 0, ARGV[1]) end
give_money_back(KEYS[2], KEYS[1], ARGV[1])
return {'returned', 0}
