-- What a create finds that the guard refuses, or under an older key of the ring, so that a rotation loses nothing: the
-- first answer to the same request, or the verification that is alive for the number.
-- NEEDS clock verification life idempotency
-- KEYS 1 the number's pointer  2 due  3... idempotency records
-- ALSO the verification that the pointer names
-- ARGV 1 binding: own code and transaction, '' for neither  2 fingerprints, one for each record
-- Answers: found (the number is the ms until it may be sent again), other (alive, but for another code or transaction), gone, conflict, or the first answer of verification_start again.
local past = remembered(3, ARGV[2])
if past then return past end
local v = latest(KEYS[1], KEYS[2])
local now = clock()
if not v or not alive(v) or now >= num(v, 'expires') then return {'gone', 0} end
return {(v.f.bind or '') == ARGV[1] and 'found' or 'other', math.max(0, num(v, 'resend') - now), 'id', v.id}
