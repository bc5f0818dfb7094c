-- Notes what is reported of a message in the simulator's inbox. Whoever takes a message in hand ends its script.
-- KEYS 1 the inbox
-- ARGV 1 the message's id  2 its status ('' for none)  3 who reports: script | hand
-- Answers: noted, passed (it is in another's hand), gone.
local state = redis.call('HGET', KEYS[1], 's' .. ARGV[1])
if not state then return {'gone', 0} end
local at, who, status = string.match(state, '^(%S+) (%S+) (%S+)$')
if ARGV[3] == 'script' and who == 'hand' then return {'passed', 0} end
if ARGV[2] ~= '' then status = ARGV[2] end
redis.call('HSET', KEYS[1], 's' .. ARGV[1], at .. ' ' .. ARGV[3] .. ' ' .. status)
return {'noted', 0}
