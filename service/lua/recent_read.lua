-- What is latest of its sort in an application.
-- KEYS 1 the list
-- ARGV 1 how many at most
-- Answers: ids, the latest first.
return redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)
