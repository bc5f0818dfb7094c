-- How long receipts take: a histogram of STEPS buckets, each wider than the one before by RATIO, from FIRST ms on, whose
-- counts fade with a half-life.
local FIRST, RATIO, STEPS, HALF_LIFE = 500, 1.25, 30, 2 * 3600 * 1000

local function faded(key, now)
  local counts, total = {}, 0
  local h = redis.call('HGETALL', key)
  local at, found = now, {}
  for i = 1, #h, 2 do
    if h[i] == 'at' then at = tonumber(h[i + 1]) else found[tonumber(string.sub(h[i], 2))] = tonumber(h[i + 1]) end
  end
  local left = 0.5 ^ (math.max(0, now - at) / HALF_LIFE)
  for k = 0, STEPS do
    counts[k] = (found[k] or 0) * left
    total = total + counts[k]
  end
  return counts, total
end

-- The ms within which 95 in 100 came (the end of their bucket), and how many that rests on.
local function percentile(counts, total)
  local seen = 0
  for k = 0, STEPS do
    seen = seen + counts[k]
    if seen >= 0.95 * total then return FIRST * RATIO ^ k, math.floor(total) end
  end
  return 0, 0
end
