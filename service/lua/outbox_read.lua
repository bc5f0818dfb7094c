-- Leases the outbox of a shard, for one relay at a time, and gives what has waited longest in it.
-- KEYS 1 the outbox  2 its lease
-- ARGV 1 lease ms  2 how many at most
-- Answers: the entries, each its id and its fields; none while another relay has the lease.
local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[2])
if #entries == 0 or not redis.call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[1]) then return {} end
return entries
