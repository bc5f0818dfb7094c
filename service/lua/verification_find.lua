-- The verification that is alive for a number: asked under the older keys of the ring, so that a rotation loses none.
-- KEYS 1 the number's pointer  2 due
-- ARGV 1 binding: own code and transaction, '' for neither
-- Answers: found (with the id as the field `id`), gone.
local id = redis.call('GET', KEYS[1])
local v = id and open(string.match(KEYS[1], '^{.-}:') .. id, KEYS[2])
if not v or not alive(v) or clock() >= num(v, 'expires') or (v.f.bind or '') ~= ARGV[1] then return {'gone', 0} end
return {'found', 0, 'id', id}
