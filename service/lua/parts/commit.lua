-- Makes a reservation last: its bucket (nil for none) remembers to which number the last send was. False where it had lapsed.
local function commit(pending, reservation, key, number)
  if redis.call('ZREM', pending, reservation) == 0 then return false end
  -- what was forgotten by hand in between must not come back without an end
  if key and redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'p', number, 'q', int(clock())) end
  return true
end
