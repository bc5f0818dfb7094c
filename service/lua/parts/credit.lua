-- Buckets of credit, by the arithmetic of service/guard/credit.py. A bucket in hand: key, level (what holds for its kind)
-- and its state.
local HOUR, DAY, ROUNDING = 3600000, 86400000, 1e-6

local function halved(time, half_life) return 0.5 ^ (time / half_life) end

local function bucket(rules, key, now)
  local f = redis.call('HMGET', key, 'w', 't', 'h', 'f', 's', 'n', 'm', 'l', 'p', 'q', 'u', 'b')
  local function num(i, default) return tonumber(f[i] or default) end
  return {key = key, level = rules[string.match(key, '^{.-}:(%w+)')], exposure = num(1, 0), at = num(2, now),
    approvals = num(3, 0), since = num(4, now), streak = num(5, 0), recent = num(6, 0), sends = num(7, 0), country = f[8] or '',
    last = f[9] or '', last_at = num(10, 0), usual = num(11, math.huge),
    block = f[12] or ''}
end

-- Approvals per hour in the long run.
local function rate(rules, b)
  local age = math.max(DAY, b.at - b.since)
  return b.approvals * math.log(2) / (rules.memory / HOUR) / (1 - halved(age, rules.memory))
end

local function leak(rules, b)
  local strain = math.max(0, b.streak - b.level.cap) / b.level.cap
  return b.level.leak * 0.5 ^ strain + rules.history * math.min(rate(rules, b), b.usual)
end

local function cap(rules, b)
  local earned = math.min(b.level.earned, rules.earning * b.approvals)
  return b.level.cap + earned + b.level.room * rules.history * rate(rules, b)
end

-- What a send to this number weighs: less when it repeats the last one.
local function weighed(rules, b, number, now, weight)
  return b.last == number and now - b.last_at < rules.again_within and weight * rules.again or weight
end

-- A failover may set the clock back; that must not add to anything.
local function passed(b, now) return math.max(0, now - b.at) end

local function exposure(rules, b, now) return math.max(0, b.exposure - leak(rules, b) * passed(b, now) / HOUR) end

local function burden(b, weight) return math.min(weight, b.level.cap) end

-- Why a send has no room under `most`: what there is, what there may be, how many ms to wait; nil when it has.
local function short(rules, b, now, weight, most)
  local held = exposure(rules, b, now)
  local over = held + burden(b, weight) - most
  if over <= ROUNDING then return nil end
  return {held, most, math.min(b.at + b.level.keep - now, math.ceil(over / leak(rules, b) * HOUR))}
end

local function recent(rules, b, now) return b.recent * halved(passed(b, now), rules.recently) end

-- Why a block has more than its part of the recent sends around it, nil when it has not.
local function concentrated(rules, lone, own, around, proof)
  local most = (lone + around) * proof
  if own + 1 - most <= ROUNDING then return nil end
  local fading = (own - around * proof) / (lone * proof - 1)
  return {own, most, math.ceil(rules.recently * math.log(fading) / math.log(2))}
end

local function settle(rules, b, now)
  local gone = passed(b, now)
  b.exposure = exposure(rules, b, now)
  b.approvals = b.approvals * halved(gone, rules.memory)
  b.recent = b.recent * halved(gone, rules.recently)
  b.sends = b.sends * halved(gone, rules.memory)
  b.at = b.at + gone
end

local function add(b, exposure, streak, recent, sends)
  b.exposure = math.max(0, b.exposure + exposure)
  b.streak = math.max(0, b.streak + streak)
  b.recent = math.max(0, b.recent + recent)
  b.sends = math.max(0, b.sends + sends)
end

-- Ten digits are exact to a ten-thousandth of what leaks in a millisecond.
local function digits(x) return string.format('%.10g', x) end

local function keep(b)
  if b.exposure + b.approvals + b.streak + b.recent + b.sends == 0 then return redis.call('DEL', b.key) end
  redis.call('HSET', b.key, 'w', digits(b.exposure), 't', int(b.at), 'h', digits(b.approvals), 'f', int(b.since),
    's', digits(b.streak), 'n', digits(b.recent), 'm', digits(b.sends))
  if b.country ~= '' then redis.call('HSET', b.key, 'l', b.country) end
  if b.block ~= '' then redis.call('HSET', b.key, 'b', b.block) end
  if b.usual < math.huge then redis.call('HSET', b.key, 'u', digits(b.usual)) end
  redis.call('PEXPIRE', b.key, int(b.level.keep))
end

local function charge(rules, b, now, weight)
  settle(rules, b, now)
  add(b, burden(b, weight), burden(b, weight), 1, 1)
  keep(b)
end

-- `crowd` is what its recent sends had added to them: less than nothing by one that was vouched for.
local function refund(rules, key, now, weight, crowd)
  if redis.call('EXISTS', key) == 0 then return end
  local b = bucket(rules, key, now)
  settle(rules, b, now)
  add(b, -burden(b, weight), -burden(b, weight), -crowd, -1)
  keep(b)
end

local function give(answer, field, value)
  if not value then return end
  answer[#answer + 1] = field
  answer[#answer + 1] = value
end

local function told(answer, rule, found)
  give(answer, rule, found and digits(found[1]) .. ' ' .. digits(found[2]) .. ' ' .. int(found[3]))
end
