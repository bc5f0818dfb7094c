-- Adds a line to the stream of changes by hand.
-- KEYS 1 the stream
-- ARGV 1 how many lines are kept, about  2... fields and values
-- Answers: noted.
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
return {'noted', 0}
