-- Gives back what limit_take took.
-- KEYS 1 the rates of what is limited
-- ARGV 1 rates
-- Answers: returned.
for count, period in string.gmatch(ARGV[1], '(%d+)/(%d+)') do
  local rate = count .. '/' .. period
  local due = redis.call('HGET', KEYS[1], rate)
  if due then redis.call('HSET', KEYS[1], rate, string.format('%.3f', due - period / count)) end
end
return {'returned', 0}
