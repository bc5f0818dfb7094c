-- Adds counts to those of an hour of an application, by every dimension at once.
-- NEEDS clock
-- KEYS the hashes that the counts belong to
-- ARGV 1 TTL ms  2 values that a hash has at most: those beyond are counted together as `other`
--      3... for each hash its counts (JSON: from each value to its amounts)
-- Answers: added.
local function sums(held, amounts)
  local words = {}
  for word in string.gmatch(held or '', '%d+') do words[#words + 1] = word end
  for k, amount in ipairs(amounts) do words[k] = int((words[k] or 0) + amount) end
  while words[#words] == '0' do words[#words] = nil end
  return table.concat(words, ' ')
end

for i, key in ipairs(KEYS) do
  for value, amounts in pairs(cjson.decode(ARGV[i + 2])) do
    local held = redis.call('HGET', key, value)
    if not held and redis.call('HLEN', key) >= tonumber(ARGV[2]) then
      value = 'other'
      held = redis.call('HGET', key, value)
    end
    redis.call('HSET', key, value, sums(held, amounts))
  end
  redis.call('PEXPIRE', key, ARGV[1])
end
return {'added', 0}
