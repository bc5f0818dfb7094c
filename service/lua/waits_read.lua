-- Tells how long receipts take.
-- NEEDS clock waits
-- KEYS 1 the histogram
-- ARGV none
-- Answers: learned (the number is the 95th percentile in ms, 0 when nothing is known) with `count`, how many receipts it rests on.
local p95, rests = percentile(faded(KEYS[1], clock()))
return {'learned', math.ceil(p95), 'count', int(rests)}
