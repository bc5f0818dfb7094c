-- Takes one from every rate, or from none of them.
-- NEEDS clock rates
-- KEYS 1 the rates of what is limited
-- ARGV 1 rates
-- Answers: taken, limited <rate> (the number is the ms until it has room).
local rate, wait = take(KEYS[1], clock(), ARGV[1])
if rate then return {'limited ' .. rate, wait} end
return {'taken', 0}
