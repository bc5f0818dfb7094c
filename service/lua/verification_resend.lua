-- Sends the same code again, now.
-- NEEDS clock verification life shut cascade rates number admit idempotency again
-- KEYS 1 the verification  2 due  3... idempotency records
-- ALSO the number's rates and shut channels, what is known of the number, its mark by hand
-- ARGV 1 application  2 lease ms  3 resend pauses ms  4 rates  5 channel asked for ('' for none)
--      6 plan ('' to keep it)  7 fingerprints, one for each record  8 idempotency TTL ms  9 not after (Redis ms, 0 for never)
--      10 the guard's rules for numbers (JSON; '' for off)
-- Answers: joined, wait, exhausted, channel, test, limited <rate or guard>, over, gone, conflict, late.
local now = clock()
if late(now, ARGV[9]) then return {'late', 0} end
local past = remembered(3, ARGV[7])
if past then return past end
local v = open(KEYS[1], KEYS[2])
if not v or v.f.app ~= ARGV[1] then return {'gone', 0} end
if lapse(v, now) then save(v) end
if not alive(v) then return reply('over', 0, v) end
local answer = again(v, now, ARGV[5], ARGV[6], ARGV[3], ARGV[4], ARGV[10], tonumber(ARGV[2]))
if answer[1] ~= 'joined' then return answer end
return remember(3, ARGV[7], ARGV[8], answer)
