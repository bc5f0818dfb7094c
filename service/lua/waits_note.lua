-- Counts how long a receipt took.
-- NEEDS clock waits
-- KEYS 1 the histogram
-- ARGV 1 ms  2 TTL ms
-- Answers: learned (the number is the 95th percentile in ms) with `count`, how many receipts it rests on.
local now = clock()
local counts, total = faded(KEYS[1], now)
local k = math.ceil(math.log(math.max(FIRST, tonumber(ARGV[1])) / FIRST) / math.log(RATIO))
k = math.min(k, STEPS)
counts[k] = counts[k] + 1
local flat = {'at', int(now)}
for i = 0, STEPS do
  if counts[i] >= 0.01 then
    flat[#flat + 1] = 'b' .. i
    flat[#flat + 1] = string.format('%.3f', counts[i])
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(flat))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local p95, rests = percentile(counts, total + 1)
return {'learned', math.ceil(p95), 'count', int(rests)}
