-- Ends a verification. Rates of one per period are spacing: they end with it, so that another can start at once.
-- NEEDS clock verification life rates
-- KEYS 1 the verification  2 due
-- ALSO the number's rates
-- ARGV 1 application  2 the rates that are spacing
-- Answers: canceled, over, gone.
local now = clock()
local v = open(KEYS[1], KEYS[2])
if not v or v.f.app ~= ARGV[1] then return {'gone', 0} end
if lapse(v, now) or not alive(v) then
  save(v)
  return reply('over', 0, v)
end
finish(v, now, 'canceled')
save(v)
for rate in string.gmatch(ARGV[2], '%S+') do redis.call('HDEL', rates_key(v.tag, v.f.number), rate) end
return reply('canceled', 0, v)
