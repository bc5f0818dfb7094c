-- A decision that was kept.
-- KEYS 1 the decision
-- ARGV none
-- Answers: found, gone.
local kept = redis.call('GET', KEYS[1])
if kept then return {'found', 0, 'decision', kept} end
return {'gone', 0}
