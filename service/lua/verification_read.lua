-- A verification as it stands, with its timeline.
-- NEEDS clock verification life
-- KEYS 1 the verification  2 due
-- ARGV 1 application
-- Answers: found, gone.
local now = clock()
local v = open(KEYS[1], KEYS[2])
if not v or v.f.app ~= ARGV[1] then return {'gone', 0} end
if lapse(v, now) then save(v) end
local answer = give(reply('found', 0, v), v, {'notes', 'guard'})
for k = 0, num(v, 'notes') - 1 do give(answer, v, {'t' .. k}) end
return answer
