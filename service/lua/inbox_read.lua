-- Messages of the simulator's inbox, the newest first.
-- KEYS 1 the inbox
-- ARGV 1 before which id (0: the newest)  2 how many at most
-- Answers: for each message its id, its state ("<ms> <who reports> <status>") and the sealed message.
local last = tonumber(redis.call('HGET', KEYS[1], 'last') or 0)
local id, answer = tonumber(ARGV[1]) - 1, {}
if id < 0 or id > last then id = last end
for at = id, math.max(1, id - ARGV[2] + 1), -1 do
  local found = redis.call('HMGET', KEYS[1], 's' .. at, 'm' .. at)
  if not found[1] then break end
  answer[#answer + 1] = at
  answer[#answer + 1] = found[1]
  answer[#answer + 1] = found[2]
end
return answer
