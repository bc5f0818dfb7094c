-- Removes from the outbox of a shard what is in the streams of its applications, and ends the lease.
-- KEYS 1 the outbox  2 its lease
-- ARGV the ids of the entries
-- Answers: nothing.
redis.call('XDEL', KEYS[1], unpack(ARGV))
redis.call('DEL', KEYS[2])
return {}
