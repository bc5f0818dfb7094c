-- Runs a verification's job: expires it, sends what is queued, or moves on from a step that stayed silent.
-- NEEDS clock verification life shut cascade
-- KEYS 1 the verification  2 due
-- ALSO the number's shut channels
-- ARGV 1 lease ms  2 the verification's id
-- Answers: deliver (what the message needs; the number is the delivery), idle (the number is the ms until it is
-- due next), gone.
local now, lease = clock(), tonumber(ARGV[1])
local v = open(KEYS[1], KEYS[2])
if not v or (not alive(v)) then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return {'gone', 0}
end
if lapse(v, now) then
  save(v)
  return reply('gone', 0, v)
end
local n = v.f.n
local d = delivery(v, n)
local waiting = d.status == 'queued' or d.status == 'sending'
-- the wait counts from the first try; a delivery that its worker left in `sending` begins anew
if waiting and (num(v, 'try') == 0 or d.status == 'sending') then put(v, 'until', now + num(v, 'wait')) end
local shut = waiting and closed(v, now, d.channel)
local over = shut or now >= num(v, 'until')
local hopeful = d.status == 'accepted' or d.status == 'sent' or d.status == 'unknown'
if waiting and over then
  progress(v, now, n, d, 'rejected', shut or 'expired')
elseif over and hopeful then
  if progress(v, now, n, d, 'unknown', 'silence') then v.f.silent = d.provider .. ' ' .. d.channel end
elseif not waiting then
  local at = hopeful and math.min(num(v, 'until'), num(v, 'expires')) or num(v, 'expires')
  wake(v, at)
  save(v)
  return {'idle', at - now}
end
if over and not advance(v, now, d.reason ~= '-' and d.reason or 'silence', '', lease) then
  save(v)
  return reply('idle', num(v, 'expires') - now, v)
end
n = v.f.n
d = delivery(v, n)
d.status = 'sending'
keep(v, n, d)
put(v, 'try', num(v, 'try') + 1)
wake(v, now + lease)
save(v)
v.f.now = int(now)
return give({'deliver', tonumber(n), 'id', v.id, 'd' .. n, v.f['d' .. n]}, v, MESSAGE)
