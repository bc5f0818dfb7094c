-- Takes one attempt before anything is compared.
-- NEEDS clock verification life idempotency
-- KEYS 1 the verification, or the number's pointer  2 due  3... idempotency records
-- ALSO the verification that the pointer names, the number's wrong guesses
-- ARGV 1 application  2 wrong guesses per number and day  3 ms after which an unsettled attempt counts as wrong
--      4 fingerprints, one for each record  5 idempotency TTL ms
-- Answers: spent (id, stored code, the guard's charge, deliveries), over, locked (the number is the ms until guesses are taken again),
-- gone, conflict, or the first answer of check_settle again.
local DAY = 24 * 3600 * 1000
local function given(v)
  local answer = give({'spent', 0, 'id', v.id}, v, {'code', 'guard', 'country', 'n'})
  for n = 0, v.f.n do give(answer, v, {'d' .. n}) end
  return answer
end
local now = clock()
local past = remembered(3, ARGV[4])
if past and past[1] ~= 'taken' then return past end
local named = string.find(KEYS[1], '}:ver_', 1, true)
local v = (named and open or latest)(KEYS[1], KEYS[2])
if not v or v.f.app ~= ARGV[1] then return {'gone', 0} end
lapse(v, now)
if alive(v) and num(v, 'spent') >= num(v, 'checks') and now > num(v, 'spending') + ARGV[3] then
  finish(v, now, 'max_attempts_reached', 'unsettled')
end
-- the same request again while the first is compared: the same guess, on the attempt that is taken already
if past and alive(v) then return given(v) end
if not alive(v) or num(v, 'spent') >= num(v, 'checks') then
  save(v)
  return reply('over', 0, v)
end
local wrong = wrong_key(v)
if tonumber(redis.call('GET', wrong) or 0) >= tonumber(ARGV[2]) and not v.f.test then
  return reply('locked', redis.call('PTTL', wrong), v)
end
if not v.f.test and redis.call('INCR', wrong) == 1 then redis.call('PEXPIRE', wrong, DAY) end
put(v, 'spent', num(v, 'spent') + 1)
put(v, 'spending', now)
save(v)
remember(3, ARGV[4], ARGV[5], {'taken', 0})
return given(v)
