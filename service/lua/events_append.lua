-- Appends events to the stream of an application, each once, and puts those in line that are to be posted.
-- NEEDS clock
-- KEYS 1 the stream  2 how far each shard has been moved  3 the lines by when they are due
-- ALSO the line of each verification
-- ARGV 1 shard ('' for none)  2 how many the stream keeps  3 for how long, ms  4 how many lines there may be
--      5 how long a line lives, ms  6... of each event its id in the outbox ('' for none), its line ('' for none), itself
-- Answers: for each appended (it is in line too, if it has one), known (it was there), full (there is no room for its line).
local now = clock()
local function split(id) return tonumber(string.match(id, '^%d+')), tonumber(string.match(id, '%d+$')) end

local mark, answer = redis.call('HGET', KEYS[2], ARGV[1]) or '0-0', {}
local ms, n = split(mark)
for i = 6, #ARGV, 3 do
  local line, event = ARGV[i + 1], ARGV[i + 2]
  local m, k = ms, n + 1
  if ARGV[i] ~= '' then m, k = split(ARGV[i]) end
  local outcome = 'appended'
  if m < ms or (m == ms and k <= n) then
    outcome = 'known'
  else
    if ARGV[i] ~= '' then ms, n, mark = m, k, ARGV[i] end
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event', event)
    if line ~= '' and not redis.call('ZSCORE', KEYS[3], line) then
      if redis.call('ZCARD', KEYS[3]) < tonumber(ARGV[4]) then
        redis.call('ZADD', KEYS[3], int(now), line)
      else
        outcome, line = 'full', ''
      end
    end
    if line ~= '' then
      local key = string.match(KEYS[3], '^{.-}:') .. 'line:' .. line
      redis.call('RPUSH', key, event)
      redis.call('PEXPIRE', key, ARGV[5])
      redis.call('PEXPIRE', KEYS[3], ARGV[5])
    end
  end
  answer[#answer + 1] = outcome
end
if ARGV[1] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], mark) end
for _, old in ipairs(redis.call('XRANGE', KEYS[1], '-', int(now - ARGV[3]), 'COUNT', 100)) do
  redis.call('XDEL', KEYS[1], old[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return answer
