-- The time, and numbers as Redis keeps them.
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function int(x) return string.format('%.0f', x) end

-- A request that Redis reads only after its caller was told 503 (a stalled server wakes up) must not send anything.
local function late(now, not_after) return tonumber(not_after) > 0 and now > tonumber(not_after) end
