-- Takes a send from a number's rates and from what it has with the guard (`rules`, '' for off). Returns what refuses it, the
-- rate or `guard`, and for how many ms.
local function admit(rates, now, allowed, rules)
  local rate, wait = take(rates, now, allowed)
  if rate or rules == '' then return rate, wait end
  local tag, number = string.match(rates, '^(.-)rates:(.*)$')
  wait = send_to(cjson.decode(rules), known_key(tag, number), now)
  return wait and 'guard' or nil, wait
end
