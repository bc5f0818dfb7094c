-- Shuts channels for a number; what is shut for longer stays as it is.
-- NEEDS clock shut
-- KEYS 1 the number's shut channels
-- ARGV channel, reason and ms of each
-- Answers: shut.
local now = clock()
for i = 1, #ARGV, 3 do shut(KEYS[1], now, ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])) end
return {'shut', 0}
