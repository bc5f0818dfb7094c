-- An idempotent request. Its first answer is a list of fingerprint, outcome, number, fields, under one of the keys from
-- KEYS[from] on (one for each of `marks`, the fingerprints under the keys of the ring). Returns it with its key.
local function remembered(from, marks)
  local at = from
  for mark in string.gmatch(marks, '%S+') do
    local past = redis.call('LRANGE', KEYS[at], 0, -1)
    if #past > 0 then
      if table.remove(past, 1) ~= mark then return {'conflict', 0} end
      past[2] = tonumber(past[2])
      past[#past + 1] = 'replayed'
      past[#past + 1] = '1'
      return past, KEYS[at]
    end
    at = at + 1
  end
  return nil
end

local function remember(from, marks, ttl, answer)
  local mark = string.match(marks, '%S+')
  if mark then
    redis.call('RPUSH', KEYS[from], mark, unpack(answer))
    redis.call('PEXPIRE', KEYS[from], ttl)
  end
  return answer
end
