-- Records what a provider answered to a send, and what follows.
-- NEEDS clock verification life shut cascade
-- KEYS 1 the verification  2 due
-- ALSO the number's shut channels
-- ARGV 1 delivery number  2 provider  3 accepted | rejected  4 reason ('' for none)  5 fingerprint of the message id ('' for none)
--      6 the message id itself, where its provider wants to hear of approvals ('' for none)
--      7 what follows: wait (accepted) | retry | switch | advance | leave (advance, or retry on the last step)  8 its delay ms  9 pointless channels  10 lease ms  11 the refusal for its step to remember ('' for none)
-- Answers: next (another delivery is to be sent now), idle (the number is the ms until it is due next), gone.
local now, n = clock(), ARGV[1]
local v = open(KEYS[1], KEYS[2])
local d = v and delivery(v, n)
if not d then return {'gone', 0} end
local follow, at = ARGV[7], now + ARGV[8]
d.provider = ARGV[2]
if ARGV[5] ~= '' then put(v, 'm' .. n, ARGV[5]) end
if ARGV[6] ~= '' then put(v, 'f' .. n, ARGV[6]) end
keep(v, n, d)
-- a receipt that was faster than the answer knows better than one that was lost: the provider has the message
local reported = RANK[d.status] >= RANK.accepted
local moved = not reported and progress(v, now, n, d, ARGV[3], ARGV[4] ~= '' and ARGV[4] or nil)
if moved then learn(v, now, ARGV[4], d.channel .. ' ' .. ARGV[9]) end
local next_at = math.min(num(v, 'until'), num(v, 'expires'))
local current = alive(v) and v.f.n == n
if not current or not moved then
  local waits = current and RANK[d.status] <= RANK.unknown
  if waits then wake(v, next_at) end
  save(v)
  return waits and reply('idle', next_at - now, v) or {'gone', 0}
end
local queued = false
if ARGV[11] ~= '' then put(v, 'asked', (v.f.asked and v.f.asked .. ' ' or '') .. ARGV[11]) end
if ARGV[3] == 'accepted' then
  wake(v, next_at)
elseif follow == 'advance' or at >= num(v, 'until') or closed(v, now, d.channel)
  or (follow == 'leave' and following(v, ARGV[9], now)) then
  queued = advance(v, now, ARGV[4], ARGV[9], tonumber(ARGV[10]))
  next_at = num(v, 'expires')
else
  if follow ~= 'switch' then
    d.status, d.reason = 'queued', '-'
    keep(v, n, d)
  else
    queue(v, now, num(v, 'step'), ARGV[4], tonumber(ARGV[10]))
  end
  queued, next_at = at == now, at
  if not queued then wake(v, at) end
end
save(v)
return reply(queued and 'next' or 'idle', next_at - now, v)
