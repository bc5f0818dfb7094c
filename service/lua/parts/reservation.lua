-- Reservations of credit that wait for their commit, `<id> <weight> <bucket>...` by the time at which they lapse: a process
-- that dies in between gives back what it took.
local MOST_LAPSED = 100

local function give_back(rules, pending, reservation, now)
  if redis.call('ZREM', pending, reservation) == 0 then return end
  local tag, weight, names = string.match(pending, '^{.-}:'), string.match(reservation, '^%S+ (%S+) ?(.*)$')
  for name in string.gmatch(names, '%S+') do refund(rules, tag .. name, now, tonumber(weight), 1) end
end

local function lapsed(rules, pending, now)
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', pending, '-inf', int(now), 'LIMIT', 0, MOST_LAPSED)) do
    give_back(rules, pending, one, now)
  end
end

-- Charges the buckets, and remembers it until the commit.
local function reserve(rules, pending, id, weight, buckets, now, lease)
  local words = {id, digits(weight)}
  for _, b in ipairs(buckets) do
    charge(rules, b, now, weight)
    words[#words + 1] = string.match(b.key, '^{.-}:(.*)$')
  end
  redis.call('ZADD', pending, int(now + lease), table.concat(words, ' '))
  redis.call('PEXPIRE', pending, DAY)
end
