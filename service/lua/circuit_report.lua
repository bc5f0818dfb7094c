-- Counts how sends by one provider over one channel went, and opens or closes its circuit.
-- NEEDS clock
-- KEYS 1 the circuit
-- ARGV 1 sends taken  2 sends failed  3 what a probe found: ok | failed | '' for none  4 window ms  5 failures that open it,
--      if they are half of the sends or more  6 first pause ms  7 longest pause ms
-- Answers: closed, open (the number is the ms until it may be probed), each with `changed` where this changed it.
local now = clock()
local c = redis.call('HMGET', KEYS[1], 'since', 'taken', 'failed', 'pause', 'until')
local since, taken, failed = tonumber(c[1] or 0), tonumber(c[2] or 0), tonumber(c[3] or 0)
local pause, shut = tonumber(c[4] or 0), tonumber(c[5] or 0)
if now - since > tonumber(ARGV[4]) then since, taken, failed = now, 0, 0 end
taken, failed = taken + ARGV[1], failed + ARGV[2]
local was = pause > 0
if ARGV[3] == 'ok' then
  pause, since, taken, failed = 0, now, 0, 0
elseif was and ARGV[3] == 'failed' then
  pause = math.min(pause * 2, tonumber(ARGV[7]))
  shut = now + pause
elseif not was and failed >= tonumber(ARGV[5]) and failed >= taken then
  pause = tonumber(ARGV[6])
  shut = now + pause
end
if not was and pause == 0 and taken + failed == 0 then return {'closed', 0} end
redis.call('HSET', KEYS[1], 'since', int(since), 'taken', taken, 'failed', failed, 'pause', pause, 'until', int(shut))
redis.call('PEXPIRE', KEYS[1], math.max(tonumber(ARGV[4]), 2 * ARGV[7]))
local answer = {pause > 0 and 'open' or 'closed', pause > 0 and math.max(0, shut - now) or 0}
if was ~= (pause > 0) then
  answer[3] = 'changed'
  answer[4] = '1'
end
return answer
