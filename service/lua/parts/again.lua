-- Sends again on request. `plan` ('' for none) replaces what is left of the cascade; else `channel` ('' for none) is a step
-- of it; else it is the next step, and around again: past steps whose channel is shut.
local function again(v, now, channel, plan, waits, rates, rules, lease)
  local test = v.f.test
  if not test and now < num(v, 'resend') then return reply('wait', num(v, 'resend') - now, v) end
  if not test and num(v, 'sent') >= num(v, 'sends') then return reply('exhausted', num(v, 'expires') - now, v) end
  local steps, at = 0, nil
  for c in string.gmatch(v.f.plan, '(%S+):%d+') do
    if c == channel then at = steps end
    steps = steps + 1
  end
  if channel ~= '' and not at then return reply('channel', 0, v) end
  if test then return reply('test', 0, v) end
  local rate, wait = admit(rates_key(v.tag, v.f.number), now, rates, rules)
  if rate then return reply('limited ' .. rate, wait, v) end
  local d = delivery(v, v.f.n)
  if d.status == 'queued' then progress(v, now, v.f.n, d, 'rejected', 'cancelled') end
  put(v, 'sent', num(v, 'sent') + 1)
  put(v, 'ask', nil)
  local pauses = {}
  for pause in string.gmatch(waits, '%d+') do pauses[#pauses + 1] = pause end
  put(v, 'resend', now + pauses[math.min(num(v, 'sent'), #pauses)])
  if plan ~= '' then
    put(v, 'plan', plan)
    steps = select(2, string.gsub(plan, '%S+', ''))
    at = 0
  end
  at = at or num(v, 'step') + 1
  local cause, last = 'resend', at + steps
  repeat
    cause = queue(v, now, at % steps, cause, lease)
    at = at + 1
  until not cause or at == last
  if cause then rest(v, now) end
  save(v)
  return reply('joined', 0, v)
end
