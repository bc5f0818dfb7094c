-- The latest lines of the stream of changes by hand.
-- KEYS 1 the stream
-- ARGV 1 how many at most
-- Answers: rows of an id and a list of fields and values, the latest first.
return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1])
