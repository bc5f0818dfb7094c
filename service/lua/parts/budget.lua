-- What was spent in the running window of each budget, `<window> <millionths>`. Windows are told by Redis' clock.
local function spent(key, name, window)
  local at, amount = string.match(redis.call('HGET', key, name) or '', '^(%d+) (%d+)$')
  return at == int(window) and tonumber(amount) or 0
end

-- A reservation is `<id> <price> <name>:<window>...`.
local function give_money_back(key, pending, reservation)
  if redis.call('ZREM', pending, reservation) == 0 then return end
  local price, windows = string.match(reservation, '^%S+ (%d+) (.*)$')
  for name, window in string.gmatch(windows, '(%S+):(%d+)') do
    local left = spent(key, name, tonumber(window)) - price
    if left >= 0 then redis.call('HSET', key, name, window .. ' ' .. int(left)) end
  end
end
