-- Starts a verification, or joins the one that is still alive for this number and application (a resend).
-- NEEDS clock verification life shut cascade rates number admit idempotency again
-- KEYS 1 the new verification  2 the number's pointer  3 the number's rates  4 due  5... idempotency records
-- ALSO the verification that the pointer names, the number's shut channels, what is known of the number, its mark by hand
-- ARGV 1 application  2 lease ms  3 resend pauses ms  4 rates  5 TTL ms  6 plan for a join ('' to keep it)
--      7 fingerprints, one for each record  8 idempotency TTL ms  9 not after (Redis ms, 0 for never)
--      10 binding: own code and transaction, '' for neither  11 the guard's rules for numbers (JSON; '' for off)
--      12... the new verification's fields and values
-- Answers: started, joined, wait, exhausted, test, limited <rate or guard>, conflict, late.
local now, lease = clock(), tonumber(ARGV[2])
if late(now, ARGV[9]) then return {'late', 0} end
local past = remembered(5, ARGV[7])
if past then return past end
local v = latest(KEYS[2], KEYS[4])
if v and v.key == KEYS[1] then return reply('started', 0, v) end
if v and lapse(v, now) then save(v) end
if v and alive(v) and (v.f.bind or '') == ARGV[10] then
  local answer = again(v, now, '', ARGV[6], ARGV[3], ARGV[4], ARGV[11], lease)
  if answer[1] ~= 'joined' then return answer end
  return remember(5, ARGV[7], ARGV[8], answer)
end
local rate, wait = admit(KEYS[3], now, ARGV[4], ARGV[11])
if rate then return {'limited ' .. rate, wait} end
if v and alive(v) then
  -- another transaction, or another code of the caller's: the pending code must not stand for it
  finish(v, now, 'canceled', 'replaced')
  save(v)
end
v = blank(KEYS[1], KEYS[4])
for i = 12, #ARGV, 2 do put(v, ARGV[i], ARGV[i + 1]) end
put(v, 'app', ARGV[1])
if ARGV[10] ~= '' then put(v, 'bind', ARGV[10]) end
put(v, 'created', now)
put(v, 'expires', now + ARGV[5])
put(v, 'resend', now + string.match(ARGV[3], '%d+'))
put(v, 'n', -1)
note(v, now, 'verification.created')
if queue(v, now, 0, 'start', lease) then advance(v, now, delivery(v, 0).reason, '', lease) end
if v.f.test then
  local d = delivery(v, 0)
  d.provider = 'test'
  progress(v, now, 0, d, 'delivered')
  wake(v, num(v, 'expires'))
end
save(v)
redis.call('PEXPIRE', v.key, 2 * ARGV[5])
redis.call('SET', KEYS[2], v.id, 'PX', 2 * ARGV[5])
redis.call('PEXPIRE', v.due, DUE_TTL)
return remember(5, ARGV[7], ARGV[8], reply('started', 0, v))
