-- Takes the price of a send from every budget of its owner, or from none of them.
-- NEEDS clock budget
-- KEYS 1 pending reservations  2 what the owner spent
-- ARGV 1 price  2 id of the reservation  3 lease ms  4 part at which to alert  5... for each budget: name, window ms, amount
-- Answers: taken, spent (for each budget that is: exposure, cap, ms until the next window); `alerts` are the budgets that this
-- send brought over the alert. Amounts are millionths of the currency.
local now, price, answer, alerts, words = clock(), tonumber(ARGV[1]), {'taken', 0}, {}, {ARGV[2], ARGV[1]}
for _, one in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, 100)) do
  give_money_back(KEYS[2], KEYS[1], one)
end
for i = 5, #ARGV, 3 do
  local name, size, most = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local window = math.floor(now / size)
  local before = spent(KEYS[2], name, window)
  if before + price > most then
    answer[1] = 'spent'
    answer[#answer + 1] = name
    answer[#answer + 1] = int(before) .. ' ' .. int(most) .. ' ' .. int((window + 1) * size - now)
  end
  if before < most * ARGV[4] and before + price >= most * ARGV[4] then alerts[#alerts + 1] = name end
  words[#words + 1] = name .. ':' .. int(window)
end
if answer[1] == 'spent' then return answer end
for i = 3, #words do
  local name, window = string.match(words[i], '^(.*):(%d+)$')
  redis.call('HSET', KEYS[2], name, window .. ' ' .. int(spent(KEYS[2], name, tonumber(window)) + price))
end
redis.call('ZADD', KEYS[1], int(now + ARGV[3]), table.concat(words, ' '))
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 2 * 24 * 3600 * 1000) end
return {'taken', 0, 'reservation', table.concat(words, ' '), 'alerts', table.concat(alerts, ' ')}
