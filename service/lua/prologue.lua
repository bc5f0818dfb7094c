-- Begins every script: the clock, and the few moves that a verification can make. `v` is a verification in hand:
-- f its fields as strings, w the names of those that changed, key and due its Redis keys, id its name.
local RANK = {queued = 0, sending = 1, accepted = 2, sent = 3, unknown = 4, rejected = 5, failed = 5, delivered = 6, read = 7}

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function int(x) return string.format('%.0f', x) end

local function open(key, due)
  local flat = redis.call('HGETALL', key)
  if #flat == 0 then return nil end
  local v = {key = key, due = due, id = string.match(key, '}:(.*)$'), tag = string.match(key, '^{.-}:'), f = {}, w = {}}
  for i = 1, #flat, 2 do v.f[flat[i]] = flat[i + 1] end
  return v
end

local function put(v, field, value)
  if type(value) == 'number' then value = int(value) end
  v.f[field] = value
  v.w[field] = true
end

local function num(v, field) return tonumber(v.f[field] or 0) end

local function save(v)
  local set, del = {}, {}
  for field in pairs(v.w) do
    if v.f[field] then
      set[#set + 1] = field
      set[#set + 1] = v.f[field]
    else
      del[#del + 1] = field
    end
  end
  if #set > 0 then redis.call('HSET', v.key, unpack(set)) end
  if #del > 0 then redis.call('HDEL', v.key, unpack(del)) end
end

-- The answer of a script: an outcome, a number, and the fields that its caller reads. Fields set in v.f without `put`
-- are for the caller alone: `noticed` (the end that this act brought about), `advanced` (from which channel to which, and
-- why), `silent` (whose wait was over), `now`, `replayed`.
local VIEW = {'app', 'status', 'created', 'expires', 'resend', 'checks', 'spent', 'sends', 'sent', 'plan', 'n', 'to',
  'country', 'purpose', 'locale', 'meta', 'test', 'noticed', 'advanced', 'silent'}
local MESSAGE = {'app', 'country', 'purpose', 'locale', 'expires', 'now', 'try', 'secret', 'extra', 'noticed', 'advanced',
  'silent'}

local function give(r, v, fields)
  for _, field in ipairs(fields) do
    if v.f[field] then
      r[#r + 1] = field
      r[#r + 1] = v.f[field]
    end
  end
  return r
end

local function reply(outcome, number, v)
  local r = give({outcome, number, 'id', v.id}, v, VIEW)
  for n = 0, v.f.n do give(r, v, {'d' .. n}) end
  return r
end

-- An idempotent request: its first answer is a list of fingerprint, outcome, number, fields.
local function remembered(key, fingerprint)
  if not key then return nil end
  local past = redis.call('LRANGE', key, 0, -1)
  if #past == 0 then return nil end
  if table.remove(past, 1) ~= fingerprint then return {'conflict', 0} end
  past[2] = tonumber(past[2])
  past[#past + 1] = 'replayed'
  past[#past + 1] = '1'
  return past
end

local function remember(key, fingerprint, ttl, answer)
  if key then
    redis.call('RPUSH', key, fingerprint, unpack(answer))
    redis.call('PEXPIRE', key, ttl)
  end
  return answer
end

-- The timeline ends at 250 events, which only a caller who never stops could reach.
local function note(v, now, event, n, cause)
  if num(v, 'notes') >= 250 then return end
  put(v, 't' .. num(v, 'notes'), int(now - num(v, 'created')) .. ' ' .. event .. ' ' .. (n or '-') .. ' ' .. (cause or '-'))
  put(v, 'notes', num(v, 'notes') + 1)
end

-- A request that Redis reads only after its caller was told 503 (a stalled server wakes up) must not send anything.
local function late(now, not_after) return tonumber(not_after) > 0 and now > tonumber(not_after) end

local function wake(v, at) redis.call('ZADD', v.due, int(at), v.id) end

local function erase(v)
  put(v, 'secret', nil)
  put(v, 'extra', nil)
end

local function alive(v) return v.f.status == 'pending' or v.f.status == 'undeliverable' end

local function finish(v, now, status, cause)
  put(v, 'status', status)
  put(v, 'ended', now)
  put(v, 'code', nil)
  erase(v)
  note(v, now, 'verification.' .. status, nil, cause)
  v.f.noticed = status
  redis.call('ZREM', v.due, v.id)
end

-- Expiry is noticed by whoever comes first; true when this was it.
local function lapse(v, now)
  if not alive(v) or now < num(v, 'expires') then return false end
  finish(v, now, 'expired')
  return true
end

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
  if status == 'delivered' or (status == 'read' and d.delivered == '-') then d.delivered = since end
  keep(v, n, d)
  note(v, now, 'delivery.' .. status, n, reason)
  return true
end

-- Opens the next delivery, on step `step` (from 0). The caller holds the lease on its job.
local function queue(v, now, step, cause, lease)
  local n, at, channel, wait = num(v, 'n') + 1, 0, nil, nil
  for c, w in string.gmatch(v.f.plan, '(%S+):(%d+)') do
    if at == step then channel, wait = c, tonumber(w) end
    at = at + 1
  end
  if v.f.step ~= int(step) or cause == 'resend' then
    put(v, 'step', step)
    put(v, 'try', 0)
    put(v, 'wait', wait)
    put(v, 'until', now + wait)
  end
  put(v, 'n', n)
  put(v, 'status', 'pending')
  keep(v, n, {step = step, channel = channel, provider = '-', status = 'queued', reason = '-',
    queued = int(now - num(v, 'created')), sent = '-', delivered = '-'})
  note(v, now, 'delivery.queued', n, cause)
  wake(v, now + lease)
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

-- Leaves the current step: opens the next one whose channel is not pointless and returns true, or rests.
local function advance(v, now, cause, pointless, lease)
  local at = 0
  for channel in string.gmatch(v.f.plan, '(%S+):%d+') do
    if at > num(v, 'step') and not string.find(pointless, channel, 1, true) then
      v.f.advanced = delivery(v, v.f.n).channel .. ' ' .. channel .. ' ' .. cause
      queue(v, now, at, cause, lease)
      return true
    end
    at = at + 1
  end
  rest(v, now)
  return false
end

-- Takes one from every rate ("1/30000 5/600000": count per milliseconds) of a number, or none of them: GCRA, one
-- theoretical arrival time per rate. Returns nil, or the rate that refuses and the milliseconds until it has room.
local function take(key, now, rates)
  local new, longest = {}, 0
  for count, period in string.gmatch(rates, '(%d+)/(%d+)') do
    local rate, step = count .. '/' .. period, period / count
    local at = math.max(now, tonumber(redis.call('HGET', key, rate) or 0))
    if at + step - now > period + 0.5 then return rate, math.ceil(at + step - now - period) end
    new[#new + 1] = rate
    new[#new + 1] = string.format('%.3f', at + step)
    longest = math.max(longest, at + step - now)
  end
  if #new > 0 then
    redis.call('HSET', key, unpack(new))
    redis.call('PEXPIRE', key, int(math.max(longest, redis.call('PTTL', key))))
  end
  return nil
end

-- Sends again on request: the asked channel, else the next step, else around again.
local function again(v, now, channel, waits, rates, lease)
  local test = v.f.test
  if not test and now < num(v, 'resend') then return reply('wait', num(v, 'resend') - now, v) end
  if not test and num(v, 'sent') >= num(v, 'sends') then return reply('exhausted', num(v, 'expires') - now, v) end
  local steps, at = {}, nil
  for c in string.gmatch(v.f.plan, '(%S+):%d+') do
    if c == channel then at = #steps end
    steps[#steps + 1] = c
  end
  if channel ~= '' and not at then return reply('channel', 0, v) end
  if test then return reply('test', 0, v) end
  local rate, wait = take(v.tag .. 'rates:' .. v.f.number, now, rates)
  if rate then return reply('limited ' .. rate, wait, v) end
  local d = delivery(v, v.f.n)
  if d.status == 'queued' then progress(v, now, v.f.n, d, 'rejected', 'cancelled') end
  put(v, 'sent', num(v, 'sent') + 1)
  local pauses = {}
  for pause in string.gmatch(waits, '%d+') do pauses[#pauses + 1] = pause end
  put(v, 'resend', now + pauses[math.min(num(v, 'sent'), #pauses)])
  queue(v, now, at or (num(v, 'step') + 1) % #steps, 'resend', lease)
  save(v)
  return reply('joined', 0, v)
end
