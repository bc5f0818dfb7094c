-- Keeps a decision, so that it can be explained.
-- KEYS 1 the decision
-- ARGV 1 what there is to tell, sealed  2 for how long (ms)
-- Answers: kept.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {'kept', 0}
