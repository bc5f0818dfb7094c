-- What is known of a number, by the arithmetic of service/guard/credit.py.
local function known_key(tag, number) return tag .. 'known:' .. number end

local function known(rules, key, now)
  local f = redis.call('HMGET', key, 'f', 'u', 't', 'm', 'a', 'l', 'b')
  local function num(i) return tonumber(f[i] or 0) end
  local gone = f[3] and math.max(0, now - f[3]) or 0
  local faded = 0.5 ^ (gone / rules.trust_memory)
  return {key = key, full = num(1), unconverted = num(2) * 0.5 ^ (gone / rules.unconverted_memory),
    sends = num(4) * faded, approvals = num(5) * faded, approved = num(6), first = num(7)}
end

local function trusted(rules, n, now)
  local ripe = n.first > 0 and now - n.first >= rules.ripe
  return ripe and n.approved > 0 and now - n.approved < rules.trust and n.approvals >= rules.trusted_share * n.sends - 1e-6
end

-- Why it has no room: exposure, cap, ms until there is; under its rule's name.
local function hurried(rules, n, now)
  local ahead = math.max(0, n.full - now)
  if ahead + rules.pause <= rules.burst * rules.pause then return nil end
  return {ahead / rules.pause, rules.burst, ahead - (rules.burst - 1) * rules.pause}
end

local function exhausted(rules, n)
  if n.unconverted + 1 - rules.unconverted <= 1e-6 then return nil end
  local wait = rules.unconverted_memory * math.log(n.unconverted / (rules.unconverted - 1)) / math.log(2)
  return {n.unconverted, rules.unconverted, math.ceil(wait)}
end

local function keep_known(rules, n, now)
  local function digits(x) return string.format('%.10g', x) end
  redis.call('HSET', n.key, 'f', int(n.full), 'u', digits(n.unconverted), 't', int(now), 'm', digits(n.sends),
    'a', digits(n.approvals), 'l', int(n.approved), 'b', int(n.first))
  redis.call('PEXPIRE', n.key, int(n.approved > 0 and rules.trust or rules.number_keep))
end

-- Why a send to the number is refused, as above.
local function withheld(rules, n, now) return hurried(rules, n, now) or exhausted(rules, n) end

local function send_to(rules, n, now)
  n.full = math.max(now, n.full) + rules.pause
  n.unconverted, n.sends = n.unconverted + 1, n.sends + 1
  keep_known(rules, n, now)
end

local function approve(rules, key, now)
  local n = known(rules, key, now)
  n.unconverted, n.approvals, n.approved = 0, n.approvals + 1, now
  if n.first == 0 then n.first = now end
  keep_known(rules, n, now)
end
