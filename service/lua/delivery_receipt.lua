-- Takes a provider's receipt for a delivery: forward only, and one advance whatever comes how often.
-- NEEDS clock verification life shut cascade
-- KEYS 1 the verification  2 due
-- ALSO the number's shut channels
-- ARGV 1 delivery number  2 provider  3 status  4 reason ('' for none)  5 pointless channels  6 lease ms
--      7 fingerprints of the message id ('' for none)
-- Answers: moved, next (moved, and another delivery is to be sent now), old (nothing new), foreign (another provider's
-- delivery, or another message), gone. The number is the ms since the delivery was sent.
local now, n = clock(), ARGV[1]
local v = open(KEYS[1], KEYS[2])
local d = v and delivery(v, n)
if not d then return {'gone', 0} end
if d.provider ~= '-' and d.provider ~= ARGV[2] then return {'foreign', 0} end
local message = v.f['m' .. n]
if ARGV[7] ~= '' and message and not string.find(ARGV[7], message, 1, true) then return {'foreign', 0} end
d.provider = ARGV[2]
local since = now - num(v, 'created') - (tonumber(d.sent) or tonumber(d.queued))
local before = d.delivered
if not progress(v, now, n, d, ARGV[3], ARGV[4] ~= '' and ARGV[4] or nil) then return {'old', since} end
if before == '-' and d.delivered ~= '-' then v.f.arrived = d.provider .. ' ' .. d.channel end
if ARGV[3] == 'failed' then learn(v, now, ARGV[4], d.channel .. ' ' .. ARGV[5]) end
local queued = false
if alive(v) and not lapse(v, now) then
  if RANK[ARGV[3]] >= RANK.delivered then
    put(v, 'status', 'pending')
    local current = delivery(v, v.f.n)
    -- its step has nothing more to wait for, whoever was asked after it
    if current.step == d.step and RANK[current.status] >= RANK.accepted then rest(v, now) end
  elseif ARGV[3] == 'failed' and v.f.n == n then
    queued = advance(v, now, ARGV[4] ~= '' and ARGV[4] or 'failed', ARGV[5], tonumber(ARGV[6]))
  elseif ARGV[3] == 'failed' then
    -- an old step: it advanced long ago, but with it nothing may be left that could still arrive
    local current = delivery(v, v.f.n).status
    -- of one that a receipt calls unknown the wait goes on: only silence ends it
    if RANK[current] > RANK.unknown or (current == 'unknown' and now >= num(v, 'until')) then rest(v, now) end
  end
end
save(v)
return give(reply(queued and 'next' or 'moved', since, v), v, {'guard', 'arrived'})
