-- Rules by hand for prefixes: `allow` or `block`, until when (ms, 0 for ever), and whatever else is noted.
-- The rule of the longest prefix that has one: `<prefix> <action>`.
local function by_hand(key, digits, now)
  local prefixes = {}
  for length = #digits, 1, -1 do prefixes[#prefixes + 1] = string.sub(digits, 1, length) end
  for i, rule in ipairs(redis.call('HMGET', key, unpack(prefixes))) do
    local action, ending = string.match(rule or '', '^(%S+) (%d+)')
    if action and (ending == '0' or now < tonumber(ending)) then return prefixes[i] .. ' ' .. action end
  end
  return nil
end
