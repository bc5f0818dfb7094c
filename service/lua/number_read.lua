-- The channels that are shut for a number.
-- NEEDS clock
-- KEYS 1 the number's shut channels
-- ARGV nothing
-- Answers: channel, reason and the ms that are left of each.
local now, answer = clock(), {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local reason, till = string.match(flat[i + 1], '^(%S+) (%d+)$')
  if now < tonumber(till) then
    for _, part in ipairs({flat[i], reason, int(till - now)}) do answer[#answer + 1] = part end
  end
end
return answer
