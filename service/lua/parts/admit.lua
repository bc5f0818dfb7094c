-- Takes a send from a number's rates and from what it has with the guard (`rules`, '' for off), or from neither. Returns what
-- refuses it, the rate or `guard`, and for how many ms. Lenient rules and trust by hand refuse nothing.
local function admit(rates, now, allowed, rules)
  if rules == '' then return take(rates, now, allowed) end
  local tag, number = string.match(rates, '^(.-)rates:(.*)$')
  local given = cjson.decode(rules)
  local n = known(given, known_key(tag, number), now)
  local found = withheld(given, n, now)
  if found and not given.lenient then
    local mark = redis.call('GET', tag .. 'hand:' .. number)
    if not mark or string.sub(mark, 1, 6) ~= 'trust ' then return 'guard', found[3] end
  end
  local rate, wait = take(rates, now, allowed)
  if not rate and not found then send_to(given, n, now) end
  return rate, wait
end
