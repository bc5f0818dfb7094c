-- Takes one attempt before anything is compared.
-- KEYS 1 the verification, or the number's pointer  2 due  3 idempotency record (optional)
-- ARGV 1 application  2 wrong guesses per number and day  3 ms after which an unsettled attempt counts as wrong
--      4 fingerprint ('' for none)  5 idempotency TTL ms
-- Answers: spent (id and stored code), over, locked (the number is the ms until guesses are taken again),
-- gone, conflict, or the first answer of check_settle again.
local now = clock()
local past = remembered(KEYS[3], ARGV[4])
if past and past[1] ~= 'taken' then return past end
local key = KEYS[1]
if not string.find(key, '}:ver_', 1, true) then
  local id = redis.call('GET', key)
  if not id then return {'gone', 0} end
  key = string.match(key, '^{.-}:') .. id
end
local v = open(key, KEYS[2])
if not v or v.f.app ~= ARGV[1] then return {'gone', 0} end
lapse(v, now)
if alive(v) and num(v, 'spent') >= num(v, 'checks') and now > num(v, 'spending') + ARGV[3] then
  finish(v, now, 'max_attempts_reached', 'unsettled')
end
-- the same request again while the first is compared: the same guess, on the attempt that is taken already
if past and alive(v) then return {'spent', 0, 'id', v.id, 'code', v.f.code} end
if not alive(v) or num(v, 'spent') >= num(v, 'checks') then
  save(v)
  return reply('over', 0, v)
end
local wrong = v.tag .. 'wrong:' .. v.f.number .. ':' .. v.f.app
if tonumber(redis.call('GET', wrong) or 0) >= tonumber(ARGV[2]) then
  return reply('locked', redis.call('PTTL', wrong), v)
end
if redis.call('INCR', wrong) == 1 then redis.call('PEXPIRE', wrong, 86400000) end
put(v, 'spent', num(v, 'spent') + 1)
put(v, 'spending', now)
save(v)
remember(KEYS[3], ARGV[4], ARGV[5], {'taken', 0})
return {'spent', 0, 'id', v.id, 'code', v.f.code}
