-- Opens a channel for a number again, if it is shut because the person opted out.
-- KEYS 1 the number's shut channels
-- ARGV 1 channel
-- Answers: open, kept (for another reason, or not shut at all).
local found = redis.call('HGET', KEYS[1], ARGV[1])
if not found or string.find(found, 'opted_out ', 1, true) ~= 1 then return {'kept', 0} end
redis.call('HDEL', KEYS[1], ARGV[1])
return {'open', 0}
