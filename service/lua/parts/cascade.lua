-- Deliveries and steps.
local RANK = {queued = 0, sending = 1, accepted = 2, sent = 3, unknown = 4, rejected = 5, failed = 5, delivered = 6, read = 7}

-- A delivery is kept as eight words: step channel provider status reason queued sent delivered (times since `created`).
local function delivery(v, n)
  local packed = v.f['d' .. n]
  if not packed then return nil end
  local d = {}
  d.step, d.channel, d.provider, d.status, d.reason, d.queued, d.sent, d.delivered =
    string.match(packed, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  return d
end

local function keep(v, n, d)
  put(v, 'd' .. n, table.concat({d.step, d.channel, d.provider, d.status, d.reason, d.queued, d.sent, d.delivered}, ' '))
end

-- Moves a delivery forward and says whether it did; anything that is not ahead of where it is changes nothing.
local function progress(v, now, n, d, status, reason)
  if RANK[status] <= RANK[d.status] then return false end
  local since = int(now - num(v, 'created'))
  d.status, d.reason = status, reason or '-'
  if d.sent == '-' and status ~= 'rejected' then d.sent = since end
  local arrived = status == 'delivered' or (status == 'read' and d.delivered == '-')
  if arrived then d.delivered = since end
  keep(v, n, d)
  note(v, now, 'delivery.' .. status, n, reason)
  if d.provider ~= '-' and v.f.n == n then put(v, 'ask', nil) end -- it was asked for before its provider was
  if arrived then publish(v, now, 'verification.delivered', n) end
  return true
end

-- Keeps what an act brought about, for its caller to count.
local function tell(v, field, words) v.f[field] = v.f[field] and v.f[field] .. ',' .. words or words end

-- Opens the next delivery, on step `step` (from 0). The caller holds the lease on its job. Where the channel is shut for
-- the number, the delivery is rejected at once: then there is nothing to send, and the reason is returned.
local function queue(v, now, step, cause, lease)
  local n, at, channel, wait = num(v, 'n') + 1, 0, nil, nil
  for c, w in string.gmatch(v.f.plan, '(%S+):(%d+)') do
    if at == step then channel, wait = c, tonumber(w) end
    at = at + 1
  end
  if v.f.step ~= int(step) or cause == 'resend' then
    put(v, 'step', step)
    put(v, 'try', 0)
    put(v, 'asked', nil)
    put(v, 'wait', wait)
    put(v, 'until', now + wait)
  end
  put(v, 'n', n)
  put(v, 'status', 'pending')
  keep(v, n, {step = step, channel = channel, provider = '-', status = 'queued', reason = '-',
    queued = int(now - num(v, 'created')), sent = '-', delivered = '-'})
  note(v, now, 'delivery.queued', n, cause)
  wake(v, now + lease)
  local reason = closed(v, now, channel)
  if not reason then return nil end
  progress(v, now, n, delivery(v, n), 'rejected', reason)
  tell(v, 'skipped', channel .. ' ' .. reason)
  return reason
end

-- Nothing more is to be done before the verification ends; the sealed code stays only while a resend could need it.
local function rest(v, now)
  if num(v, 'sent') >= num(v, 'sends') then erase(v) end
  local refused = true
  for n = 0, num(v, 'n') do
    local status = delivery(v, n).status
    if status ~= 'rejected' and status ~= 'failed' then refused = false end
  end
  if refused and v.f.status == 'pending' then
    put(v, 'status', 'undeliverable')
    note(v, now, 'verification.undeliverable')
    v.f.noticed = 'undeliverable'
  end
  wake(v, num(v, 'expires'))
end

-- The next step whose channel is not pointless, and its channel; nil when there is none. With `now` it is not shut either.
local function following(v, pointless, now)
  local at = 0
  for channel in string.gmatch(v.f.plan, '(%S+):%d+') do
    local useless = string.find(pointless, channel, 1, true) or (now and closed(v, now, channel))
    if at > num(v, 'step') and not useless then return at, channel end
    at = at + 1
  end
  return nil
end

-- Leaves the current step: opens the following one that is not shut and returns true, or rests.
local function advance(v, now, cause, pointless, lease)
  local step, channel = following(v, pointless)
  while step do
    local left = delivery(v, v.f.n)
    tell(v, 'advanced', left.channel .. ' ' .. channel .. ' ' .. cause .. ' ' .. left.provider)
    local shut = queue(v, now, step, cause, lease)
    publish(v, now, 'verification.advanced', v.f.n, cause)
    cause = shut
    put(v, 'ask', 1) -- nobody asked for this one: the guard is asked before it is sent
    if not cause then return true end
    step, channel = following(v, pointless)
  end
  rest(v, now)
  return false
end
