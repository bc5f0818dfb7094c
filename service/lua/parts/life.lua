-- How a verification lives and ends.
local DUE_TTL = 48 * 3600 * 1000 -- twice the longest life of a verification; each start renews it

local function wake(v, at) redis.call('ZADD', v.due, int(at), v.id) end

-- The wrong guesses of its number in its application.
local function wrong_key(v) return v.tag .. 'wrong:' .. v.f.number .. ':' .. v.f.app end

local function erase(v)
  put(v, 'secret', nil)
  put(v, 'extra', nil)
end

local function alive(v) return v.f.status == 'pending' or v.f.status == 'undeliverable' end

local function finish(v, now, status, cause)
  put(v, 'status', status)
  put(v, 'ended', now)
  put(v, 'code', nil)
  put(v, 'bind', nil)
  put(v, 'guard', nil)
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
