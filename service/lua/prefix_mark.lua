-- Makes a rule by hand for a prefix, or takes it away, or (release) forgets what is held against the prefix itself.
-- NEEDS clock
-- KEYS 1 rules by hand  2 blocked prefixes  3... buckets of the prefix
-- ARGV 1 the prefix's digits  2 action: allow, block, release; '' to take the rule away  3 how long it holds (ms, 0 for ever)
--      4 author and reason
-- Answers: marked, released, unmarked, gone (there was no rule).
if ARGV[2] == '' then return {redis.call('HDEL', KEYS[1], ARGV[1]) == 1 and 'unmarked' or 'gone', 0} end
if ARGV[2] == 'release' then
  for i = 3, #KEYS do
    redis.call('DEL', KEYS[i])
    redis.call('ZREM', KEYS[2], string.match(KEYS[i], '^{.-}:(.*)$'))
  end
  return {'released', 0}
end
local ending = ARGV[3] == '0' and '0' or int(clock() + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ending .. ' ' .. ARGV[4])
return {'marked', 0}
