-- A verification as it stands.
-- KEYS 1 the verification  2 due
-- ARGV 1 application
-- Answers: found, gone.
local now = clock()
local v = open(KEYS[1], KEYS[2])
if not v or v.f.app ~= ARGV[1] then return {'gone', 0} end
if lapse(v, now) then save(v) end
return reply('found', 0, v)
