-- Makes a rule by hand for a prefix, or takes it away, or (release) forgets what is held against the prefix.
-- NEEDS clock
-- KEYS 1 rules by hand  2 blocked prefixes  3... buckets of the prefix
-- ALSO the buckets of blocked prefixes that begin with it
-- ARGV 1 the prefix's digits  2 action: allow, block, release; '' to take the rule away  3 how long it holds (ms, 0 for ever)
--      4 reason, author, and when it was made
-- Answers: marked, released, unmarked, gone (there was no rule).
if ARGV[2] == '' then return {redis.call('HDEL', KEYS[1], ARGV[1]) == 1 and 'unmarked' or 'gone', 0} end

-- What stands for it stays: a range that lost the room which it has earned would soon be full again.
local function release(key)
  if redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'w', '0', 's', '0', 'n', '0') end
end

if ARGV[2] == 'release' then
  for i = 3, #KEYS do release(KEYS[i]) end
  local tag = string.match(KEYS[2], '^{.-}:')
  for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if string.find(name, ':' .. ARGV[1], 1, true) then
      release(tag .. name)
      redis.call('ZREM', KEYS[2], name)
    end
  end
  return {'released', 0}
end
local ending = ARGV[3] == '0' and '0' or int(clock() + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ending .. ' ' .. ARGV[4])
return {'marked', 0}
