-- Reservations of credit that wait for their commit, by the time at which they lapse: a process that dies in between gives
-- back what it took.
local MOST_LAPSED = 100

local function lapsed(rules, pending, now)
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', pending, '-inf', int(now), 'LIMIT', 0, MOST_LAPSED)) do
    if redis.call('ZREM', pending, one) == 1 then refund(rules, string.match(pending, '^{.-}:'), one, now) end
  end
end

-- Charges the buckets, of which the first was told the number, and remembers it until the commit. Returns the reservation.
local function reserve(rules, pending, id, weight, buckets, now, lease)
  local words = {id, digits(weight), buckets[1].before}
  for _, b in ipairs(buckets) do
    charge(rules, b, now, weight)
    words[#words + 1] = string.match(b.key, '^{.-}:(.*)$')
  end
  local reservation = table.concat(words, ' ')
  redis.call('ZADD', pending, int(now + lease), reservation)
  redis.call('PEXPIRE', pending, DAY)
  return reservation
end
