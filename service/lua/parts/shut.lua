-- Where a number cannot be reached: "<reason> <until>" for each channel that is shut for it. What a failure tells of
-- its recipient is remembered for a day.
local DAY = 24 * 3600 * 1000
local REMEMBERED = {landline = true, not_on_channel = true, opted_out = true}

local function shut_key(v) return v.tag .. 'shut:' .. v.f.number end

-- Shuts a channel for so long; what is shut for longer stays as it is.
local function shut(key, now, channel, reason, ttl)
  local till = string.match(redis.call('HGET', key, channel) or '', '%d+$')
  if till and tonumber(till) >= now + ttl then return end
  redis.call('HSET', key, channel, reason .. ' ' .. int(now + ttl))
  redis.call('PEXPIRE', key, int(math.max(ttl, redis.call('PTTL', key))))
end

-- Remembers a failure on these channels, if its reason is one to remember. What an e-mail meets is its address's, not the
-- number's, and the next request may bring another.
local function learn(v, now, reason, channels)
  if not REMEMBERED[reason] then return end
  for channel in string.gmatch(channels, '%S+') do
    if channel ~= 'email' then shut(shut_key(v), now, channel, reason, DAY) end
  end
end

-- Why a channel is shut for the number of a verification; nil where it is not. Nothing is ever sent to a test number.
local function closed(v, now, channel)
  local reason, till = string.match(redis.call('HGET', shut_key(v), channel) or '', '^(%S+) (%d+)$')
  return reason and now < tonumber(till) and not v.f.test and reason or nil
end
