-- A verification in hand, `v`: f its fields as strings, w the names of those that changed, key and due its Redis keys, tag
-- what all keys of its shard begin with, id its name.
local MOST_EVENTS = 250

local function blank(key, due)
  return {key = key, due = due, id = string.match(key, '}:(.*)$'), tag = string.match(key, '^{.-}:'), f = {}, w = {}}
end

local function open(key, due)
  local flat = redis.call('HGETALL', key)
  if #flat == 0 then return nil end
  local v = blank(key, due)
  for i = 1, #flat, 2 do v.f[flat[i]] = flat[i + 1] end
  return v
end

-- The number's latest verification, by its pointer.
local function latest(pointer, due)
  local id = redis.call('GET', pointer)
  return id and open(string.match(pointer, '^{.-}:') .. id, due)
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
-- are for the caller alone: `noticed` (the end that this act brought about), `advanced` (from which channel to which,
-- why, and by whom the first was carried, for each), `skipped` (which channel was shut, and why, for each), `silent` (whose
-- wait was over), `arrived` (whose message, and over which channel), `now`, `replayed`.
local VIEW = {'app', 'status', 'created', 'expires', 'resend', 'checks', 'spent', 'sends', 'sent', 'plan', 'n', 'to',
  'country', 'purpose', 'locale', 'meta', 'test', 'noticed', 'advanced', 'skipped', 'silent'}
local MESSAGE = {'app', 'country', 'purpose', 'locale', 'expires', 'now', 'until', 'asked', 'to', 'secret', 'extra', 'guard', 'ask',
  'noticed', 'advanced', 'skipped', 'silent'}

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

-- Puts an event down for its application, if that wants to know, with the change that it tells of: a relay moves it on.
local UNTOLD, UNTOLD_TTL = 10000, 48 * 3600 * 1000
local TOLD = {'app', 'country', 'purpose', 'to', 'meta', 'test'}

local function publish(v, now, event, n, cause)
  if not v.f.events then return end
  local outbox = v.tag .. 'outbox'
  local entry = {'id', v.id, 'type', event, 'at', int(now), 'n', n, 'cause', cause or '-'}
  entry = give(give(entry, v, TOLD), v, {'d' .. n})
  redis.call('XADD', outbox, 'MAXLEN', '~', UNTOLD, '*', unpack(entry))
  redis.call('PEXPIRE', outbox, UNTOLD_TTL)
end

-- The timeline has an end, which only a caller who never stops could reach.
local function note(v, now, event, n, cause)
  if string.find(event, '^verification') then publish(v, now, event, v.f.n, cause) end
  if num(v, 'notes') >= MOST_EVENTS then return end
  put(v, 't' .. num(v, 'notes'), int(now - num(v, 'created')) .. ' ' .. event .. ' ' .. (n or '-') .. ' ' .. (cause or '-'))
  put(v, 'notes', num(v, 'notes') + 1)
end
