-- The limits of a number.
local function rates_key(tag, number) return tag .. 'rates:' .. number end

-- Takes one from every rate ("1/30000 5/600000": count per milliseconds) or none of them: GCRA, one
-- theoretical arrival time per rate. Returns nil, or the rate that refuses and the milliseconds until it has room.
local function take(key, now, rates)
  local new, longest = {}, 0
  for count, period in string.gmatch(rates, '(%d+)/(%d+)') do
    local rate, step = count .. '/' .. period, period / count
    local at = math.max(now, tonumber(redis.call('HGET', key, rate) or 0))
    if at + step - now > period + 0.5 then return rate, math.ceil(at + step - now - period) end
    new[#new + 1] = rate
    new[#new + 1] = string.format('%.3f', at + step)
    longest = math.max(longest, at + step - now)
  end
  if #new > 0 then
    redis.call('HSET', key, unpack(new))
    redis.call('PEXPIRE', key, int(math.max(longest, redis.call('PTTL', key))))
  end
  return nil
end
