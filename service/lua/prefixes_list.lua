-- The prefixes of a country that there is something to say of: ranges that are in use, what is blocked, the rules by hand.
-- NEEDS clock
-- KEYS 1 ranges by when they were last used  2 blocked prefixes  3 hand rules
-- ARGV 1 how many of each at most
-- Answers: rows of `range` and a bucket's name; of `blocked`, a bucket's name and until when (ms); of `hand`, a prefix's digits
-- and its rule.
local now, rows = clock(), {}
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1)) do rows[#rows + 1] = {'range', name} end
local blocked = redis.call('ZREVRANGEBYSCORE', KEYS[2], '+inf', '(' .. int(now), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 1, #blocked, 2 do rows[#rows + 1] = {'blocked', blocked[i], int(blocked[i + 1])} end
local hand = redis.call('HGETALL', KEYS[3])
for i = 1, #hand, 2 do
  local ending = string.match(hand[i + 1], '^%S+ (%d+)')
  if ending == '0' or now < tonumber(ending) then rows[#rows + 1] = {'hand', hand[i], hand[i + 1]} end
end
return rows
